package watch

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/internal/event"
	"culprit/internal/text"
)

var watchTime = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.Local)

func aHit(id, command string) event.Hit {
	return event.Hit{
		Timestamp: watchTime, Event: event.Meta{ID: id, Action: event.ActionHit}, Rule: event.Rule{Name: "badzone"},
		User: &event.User{ID: "4242", Name: "web1"}, Network: event.Network{Transport: "udp"},
		Source:      event.Endpoint{IP: netip.MustParseAddr("192.0.2.1"), Port: 4000},
		Destination: event.Endpoint{IP: netip.MustParseAddr("192.0.2.53"), Port: 53},
		DNS:         &event.DNS{Question: event.Question{Name: "x.badzone.test", Type: "A"}},
		Process:     &event.Process{PID: 812, CommandLine: command},
		Culprit:     event.HitDetail{Count: 1, Capture: &event.Reference{ID: "C"}},
	}
}

func aCapture(id, state string) event.Capture {
	return event.Capture{
		Timestamp: watchTime, Event: event.Meta{ID: id, Action: event.ActionCapture}, User: event.User{ID: "4242", Name: "web1"},
		Culprit: event.CaptureDetail{State: state, Level: 1, Hits: 2, Traces: 3},
	}
}

func aView() *view {
	v := &view{dir: "/var/lib/culprit", daemon: "culprit is running (PID 7)", since: watchTime, newHits: 3, proven: 1, lost: 14}
	v.captures = []*captureView{
		{Capture: aCapture("01JH0000000000000000RUNNING1", event.StateRunning), straces: 2, bytes: 3 << 20},
		{Capture: aCapture("01JH00000000000000000000ENDED", event.StateEnded)},
	}
	v.captures[1].Culprit.EndedBecause = &event.Ended{Code: event.EndedTime}
	for n := range 30 {
		v.hits = append(v.hits, aHit(fmt.Sprintf("01JH%022d", n), "php cron.php"))
	}
	v.hits[29].Culprit.Proof = &event.ProofDetail{Line: 214}
	v.hits[28].Culprit.Proof = &event.ProofDetail{Line: 214, Probable: true}
	v.hits[27].Culprit.Proof = &event.ProofDetail{Line: 214, Kernel: true}
	v.losses = []event.Loss{{Timestamp: watchTime, Culprit: event.LossDetail{Code: "packets", Count: 14}}}
	return v
}

func texts(rows []row) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.text + "\n")
	}
	return b.String()
}

func TestFrame(t *testing.T) {
	t.Parallel()
	const want = `/var/lib/culprit: culprit is running (PID 7). q quits
now 1 capture, 2 straces, 3.0 MiB; since 03:04:05 3 hits, 1 proven, 14 lost

STARTED   CAPTURE   USER         LEVEL  HITS  TRACES  STRACES  SIZE     STATE
03:04:05  RUNNING1  web1 (4242)  1      2     3       2        3.0 MiB  running
03:04:05  000ENDED  web1 (4242)  1      2     3       0        0 B      ended: …

TIME      HIT       USER         ASKS              PROOF              FROM
03:04:05  00000029  web1 (4242)  x.badzone.test A  line 214           812 php c…
03:04:05  00000028  web1 (4242)  x.badzone.test A  line 214?          812 php c…
03:04:05  00000027  web1 (4242)  x.badzone.test A  line 214 (kernel)  812 php c…

TIME      LOST  WHAT
03:04:05  14    packets
`
	if got := texts(frame(aView(), watchTime, 80, 14)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	later := texts(frame(aView(), watchTime.AddDate(0, 0, 1), 200, 50))
	if !strings.Contains(later, "01-02 03:04  00000000  web1") || !strings.Contains(later, "ended: its time was up\n") {
		t.Errorf("in a large window, a day later:\n%s", later)
	}
	empty := &view{dir: "d", daemon: "culprit is not running"}
	if got := texts(frame(empty, watchTime, 80, 24)); !strings.HasPrefix(got, "d: culprit is not running.") || strings.Count(got, "\n") != 8 {
		t.Errorf("with nothing there:\n%s", got)
	}
}

// However small the window, the frame fits, and nothing in it moves the cursor.
func TestFrameFits(t *testing.T) {
	t.Parallel()
	v := aView()
	for i := range v.hits {
		v.hits[i].Process.CommandLine = "\x1b[2J\r\n\t\u202e\xff" + strings.Repeat("é", 100)
		v.hits[i].DNS.Question.Name = strings.Repeat("n\x00", 200)
		v.hits[i].User.Name = "w\teb\n"
	}
	v.losses[0].Culprit.Detail = strings.Repeat("w", 500) + "\x07"
	for width := 0; width < 200; width += 1 + width/8 {
		for height := 0; height < 60; height += 1 + height/8 {
			rows := frame(v, watchTime, width, height)
			if len(rows) > height {
				t.Fatalf("%dx%d: %d rows", width, height, len(rows))
			}
			for _, r := range rows {
				if n := utf8.RuneCountInString(r.text); n > width || text.Escape(r.text) != r.text {
					t.Fatalf("%dx%d: %d characters: %q", width, height, n, r.text)
				}
			}
		}
	}
}

// There are lines for new things, and only for those, whether a daemon runs or not.
func TestWatchLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *evidence.Store {
		s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	c := aCapture(event.NewID(), event.StateEnded)
	s.Capture(c)
	old := aHit(event.NewID(), "old")
	s.Hit(&old)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		r, err := catalogue.OpenReader(dir)
		if err == nil {
			err = Run(ctx, r, dir, in)
			r.Close()
		}
		in.Close()
		done <- err
	}()
	lines := bufio.NewScanner(out)
	// expect reads lines, without their time, until all wanted ones came. There may be no
	// others.
	expect := func(want ...string) {
		t.Helper()
		for len(want) > 0 {
			if !lines.Scan() {
				t.Fatalf("it ended; wanted %q", want)
			}
			got := strings.TrimSpace(lines.Text()[23:])
			if got != want[0] {
				t.Fatalf("got %q\nwant %q", got, want[0])
			}
			want = want[1:]
		}
	}
	expect("culprit  culprit is not running")
	s = open()
	expect(fmt.Sprintf("culprit  culprit is running (PID %d)", os.Getpid()))

	c = aCapture(event.NewID(), event.StateRunning)
	s.Capture(c)
	expect("capture  " + c.Event.ID + " user web1 (4242), level 1, 2 hits, 3 traces, running")
	c.Culprit.Hits = 3 // not worth a line
	s.Capture(c)
	hit := aHit(event.NewID(), "php\n\x1b[2J")
	s.Hit(&hit)
	expect("hit      " + hit.Event.ID + ` rule badzone, user web1 (4242), udp 192.0.2.1:4000 > 192.0.2.53:53 asks x.badzone.test A, from 812 php\n\x1b[2J, capture C`)
	c.Culprit.Level = 2
	s.Capture(c)
	expect("capture  " + c.Event.ID + " user web1 (4242), level 2, 3 hits, 3 traces, running")
	trace := event.Trace{
		Timestamp: watchTime, Event: event.Meta{ID: event.NewID()}, User: c.User, Process: event.Process{PID: 812, Name: "php"},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: event.StateRunning, FromStart: true},
	}
	f, err := s.Create(&trace)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	s.Trace(trace)
	expect("trace    " + trace.Event.ID + " 812 php, running from start: " + trace.File.Path)
	trace.Culprit.State, trace.Culprit.EndedBecause, trace.File.Size = event.StateEnded, &event.Ended{Code: event.EndedExited, Detail: "0"}, 2048
	s.Trace(trace)
	expect("trace    " + trace.Event.ID + " 812 php, the process ended with status 0, 2.0 KiB: " + trace.File.Path)
	s.Lost(event.NewLoss("packets", "", 9))
	expect("loss     9 packets")
	c.Culprit.State, c.Culprit.EndedBecause = event.StateEnded, &event.Ended{Code: event.EndedTime}
	s.Capture(c)
	expect("capture  " + c.Event.ID + " user web1 (4242), level 2, 3 hits, 3 traces, ended: its time was up")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect("culprit  culprit is not running")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if lines.Scan() {
		t.Errorf("one more: %q", lines.Text())
	}
}

// Hits are all reported, even if there are more than are read at a time or kept.
func TestLookMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v, told := newView(r, dir), 0
	look := func() {
		t.Helper()
		if err := v.look(func(_ time.Time, kind, _ string) {
			if kind == "hit" {
				told++
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	look()
	const many = 2*chunk + 500
	for range many {
		h := aHit(event.NewID(), "php")
		s.Hit(&h)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	if told != many || v.newHits != many || len(v.hits) != keepHits {
		t.Errorf("told of %d, counted %d, kept %d", told, v.newHits, len(v.hits))
	}
}

// A proof that comes after its hit is reported, and shown with the hit.
func TestLookProofs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	hit := aHit(event.NewID(), "holder")
	s.Hit(&hit)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v := newView(r, dir)
	var told []string
	look := func() {
		t.Helper()
		if err := v.look(func(_ time.Time, kind, what string) { told = append(told, kind+" "+what) }); err != nil {
			t.Fatal(err)
		}
	}
	look()
	proof := event.Proof{
		Event: event.Meta{ID: event.NewID()}, File: event.File{Path: "/e/812.strace"}, Process: event.Process{PID: 812, Name: "php"},
		Culprit: event.ProofDetail{Capture: event.Reference{ID: "C"}, Hit: event.Reference{ID: hit.Event.ID}, Syscall: "sendto", Line: 214},
	}
	doc, err := json.Marshal(proof)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "catalogue.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE arrivals SET number = number + 1; INSERT INTO proofs (id, capture, trace, hit, doc, arrived) SELECT ?, 'C', 'T', ?, ?, number FROM arrivals", proof.Event.ID, hit.Event.ID, doc); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	want := []string{"culprit culprit is not running", "proof " + hit.Event.ID + " sent by 812 php: sendto, line 214 of " + filepath.Join(dir, "traces/C/812.strace")}
	if !slices.Equal(told, want) || v.proven != 1 {
		t.Errorf("got %q\nwant %q", told, want)
	}
	if h := v.hits[0]; h.Culprit.Proof == nil || h.Process.Name != "php" {
		t.Errorf("the hit is %+v", h)
	}
}

// In the mirror of a fleet a host whose clock is an hour ahead does not hide what others find after it: hits, and proofs
// and losses beyond those that are kept.
func TestLookAhead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := mirrorIn(t, dir)
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v := newView(r, dir)
	told := map[string][]string{}
	look := func() {
		t.Helper()
		clear(told)
		if err := v.look(func(_ time.Time, kind, what string) { told[kind] = append(told[kind], what) }); err != nil {
			t.Fatal(err)
		}
	}
	id := func(ahead time.Duration) string {
		return ulid.MustNew(ulid.Timestamp(time.Now().Add(ahead)), rand.Reader).String()
	}
	of := func(host string, ahead time.Duration) []catalogue.Received {
		hit := aHit(id(ahead), "php")
		c := aCapture(id(ahead), event.StateRunning)
		p := event.Proof{Event: event.Meta{ID: id(ahead)}, Culprit: event.ProofDetail{Hit: event.Reference{ID: hit.Event.ID}, Capture: event.Reference{ID: c.Event.ID}, Trace: event.Reference{ID: id(ahead)}}}
		l := event.NewLoss("packets", host, 1)
		l.Event.ID = id(ahead)
		return []catalogue.Received{{Host: host, Document: &hit}, {Host: host, Document: c}, {Host: host, Document: p}, {Host: host, Document: l}}
	}
	look()
	for range keepProofs + 1 { // more than are kept of anything
		put(of("ahead", time.Hour)...)
	}
	look()
	put(of("behind", -time.Minute)...)
	look()
	for _, kind := range []string{"hit", "capture", "proof", "loss"} {
		if len(told[kind]) != 1 {
			t.Errorf("of the host whose clock is right, %d of kind %s are told, want 1: %q", len(told[kind]), kind, told[kind])
		}
	}
	put(of("ahead", time.Hour)...)
	look()
	if len(told["hit"]) != 1 || len(told["proof"]) != 1 {
		t.Errorf("then of the host that is ahead: %q", told)
	}
}

// mirrorIn makes the mirror of a fleet, and keeps it open. It returns what puts documents into it.
func mirrorIn(t *testing.T, dir string) func(documents ...catalogue.Received) {
	t.Helper()
	d, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.OpenMirror(d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	sequence := uint64(0)
	return func(documents ...catalogue.Received) {
		t.Helper()
		sequence++
		if refused, err := c.Receive(t.Context(), catalogue.Position{Stream: "culprit_events", Created: watchTime, Sequence: sequence}, documents); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
}

// BenchmarkLook measures a look without news, which happens twice a second.
func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	c := aCapture(event.NewID(), event.StateRunning)
	s.Capture(c)
	for range 100 {
		t := event.Trace{Event: event.Meta{ID: event.NewID()}, Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: event.StateRunning}}
		s.Trace(t)
	}
	for range 10_000 {
		h := aHit(event.NewID(), "php")
		s.Hit(&h)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	v := newView(r, dir)
	for b.Loop() {
		if err := v.look(func(time.Time, string, string) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*float64(b.Elapsed())/float64(b.N)/float64(lookEvery), "%CPU")
}
