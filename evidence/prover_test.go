package evidence

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
)

// sentAt is when the packets of these tests were sent.
var sentAt = time.Unix(1_700_000_000, 0).UTC()

// badzoneQuery asks for x.badzone.test, with that id.
func badzoneQuery(id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	return append(b, "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x07badzone\x04test\x00\x00\x01\x00\x01"...)
}

// sentHit is a hit of a UDP packet from 127.0.0.1:4000 to 127.0.0.1:53.
func sentHit(capture string, payload []byte) *event.Hit {
	h := aHit("7", "a")
	h.Event.ID, h.Timestamp = event.NewID(), sentAt.Add(time.Millisecond)
	h.Process, h.Culprit.Origin = nil, event.Origin{Grade: event.GradeCandidates, Reason: &event.Unattributed{Code: event.UnattributedClosed}, Processes: []event.Process{{PID: 99}}}
	h.Culprit.Capture.ID = capture
	h.Source = event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 4000}
	h.Destination = event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53}
	size := 28 + len(payload)
	ip := []byte{0x45, 0, byte(size >> 8), byte(size), 0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}
	udp := []byte{4000 >> 8, 4000 & 0xff, 0, 53, byte((8 + len(payload)) >> 8), byte(8 + len(payload)), 0, 0}
	h.Packet = bytes.Join([][]byte{ip, udp, payload}, nil)
	h.Network.Bytes = len(h.Packet)
	return h
}

// sendLine is a line of strace that sends the payload.
func sendLine(tid int, payload []byte) string {
	var s strings.Builder
	for _, c := range payload {
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return fmt.Sprintf("%d %d.000000 sendto(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, \"%s\", %d, 0, NULL, 0) = %d <0.00001>\n", tid, sentAt.Unix(), &s, len(payload), len(payload))
}

// A trace is compared with the packets while it is written, whichever comes first,
// and once more when asked for.
func TestProofs(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"the hit first", "the line first", "only afterwards"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			os.Chmod(dir, 0o700)
			s := open(t, dir)
			c := aCapture(event.StateRunning)
			s.Capture(c)
			tr := event.Trace{
				Timestamp: sentAt.Add(-time.Second), Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace},
				User: event.User{ID: "7"}, Rule: &event.Rule{Name: "a"}, Process: event.Process{PID: 1 << 23, Name: "sh", CommandLine: "sh -c x"},
				Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: event.StateRunning},
			}
			// The sender is a child that is known only when it has ended.
			const child = 1<<23 + 1
			hit, other := sentHit(c.Event.ID, badzoneQuery(1)), sentHit(c.Event.ID, badzoneQuery(2))
			f, err := s.Create(&tr)
			if err != nil {
				t.Fatal(err)
			}
			text := "# header\n" + fmt.Sprintf("%d %d.000000 close(3) = 0 <0.1>\n", child, sentAt.Unix()) + sendLine(child, badzoneQuery(1))
			if order == "the hit first" {
				s.Hit(hit)
			}
			if order != "only afterwards" {
				fmt.Fprint(f, text)
			}
			if order != "the hit first" {
				s.Hit(hit)
			}
			s.Hit(other)
			f.Close()
			s.Trace(tr)
			end := sentAt.Add(time.Second)
			s.Program(event.Program{
				Event:   event.Meta{ID: event.NewID(), End: &end},
				Process: event.Process{PID: child, CommandLine: "lookup", Start: sentAt.Add(-time.Second), Parent: &event.Process{PID: tr.Process.PID}},
				Culprit: event.ProgramDetail{Capture: tr.Culprit.Capture},
			})
			tr.Culprit.State = event.StateEnded
			s.Trace(tr)
			c.Culprit.State = event.StateEnded
			s.Capture(c)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			want := "lookup"
			if order == "only afterwards" {
				want = tr.Process.CommandLine // programs are not asked
				if err := os.WriteFile(tr.File.Path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir)
				if done, err := s.Prove(""); err != nil || done.Found != 1 || done.Hits != 2 || done.Traces != 1 || len(done.Unread) != 0 {
					t.Errorf("prove: %+v, %v", done, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r := reader(t, dir)
			hits := all(t, r.Hits(Filter{}))
			p := hits[0].Culprit.Proof
			if p == nil || p.Probable || p.Line != 3 || p.TID != child || p.Syscall != "sendto" || p.Trace.ID != tr.Event.ID || !strings.HasPrefix(text[p.Offset:], fmt.Sprint(child, " ")) {
				t.Fatalf("the proof is %+v", p)
			}
			if o := hits[0].Culprit.Origin; o.Grade != event.GradeProof || len(o.Processes) != 0 || hits[0].Process == nil || hits[0].Process.CommandLine != want {
				t.Errorf("the origin is %+v, the process %+v, want %q", o, hits[0].Process, want)
			}
			if order != "only afterwards" {
				if parent := hits[0].Process.Parent; parent == nil || parent.CommandLine != "sh -c x" {
					t.Errorf("the parent of the process is %+v", parent)
				}
			}
			if hits[1].Culprit.Proof != nil || hits[1].Culprit.Origin.Grade != event.GradeCandidates {
				t.Errorf("a hit that nobody sent is proven: %+v", hits[1].Culprit)
			}
			traces := all(t, r.Traces(Filter{}))
			if ps := traces[0].Culprit.Proofs; len(ps) != 1 || ps[0].Hit.ID != hit.Event.ID {
				t.Errorf("the trace's proofs are %+v", ps)
			}
			if info, err := os.Stat(filepath.Join(dir, "traces", c.Event.ID, packetsName)); err != nil || info.Mode() != 0o600 || info.Size() < 200 {
				t.Errorf("the packets: %v, %v", info, err)
			}
		})
	}
}

// The process that the proof names wins over the one that held the socket, which is
// not hidden.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	h := sentHit("C", badzoneQuery(1))
	h.Process, h.Culprit.Origin = &event.Process{PID: 50}, event.Origin{Grade: event.GradeSocket}
	if err := prove(h, `{"process": {"pid": 60}, "culprit": {"line": 3}}`); err != nil {
		t.Fatal(err)
	}
	if o := h.Culprit.Origin; h.Process.PID != 60 || o.Grade != event.GradeProof || len(o.Processes) != 1 || o.Processes[0].PID != 50 || *o.Reason != (event.Unattributed{Code: event.UnattributedHolder, Detail: "50"}) {
		t.Errorf("process %+v, origin %+v", h.Process, o)
	}
	h.Culprit.Origin, h.Process = event.Origin{Grade: event.GradeSocket}, &event.Process{PID: 50}
	if err := prove(h, `{"process": {"pid": 60}, "culprit": {"line": 3, "probable": true}}`); err != nil || h.Process.PID != 50 || h.Culprit.Origin.Grade != event.GradeSocket {
		t.Errorf("a probable proof changes the origin: %+v, %v", h.Culprit.Origin, err)
	}
}

// A hit that no trace proves says why not.
func TestUnproven(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) *time.Time {
		t := sentAt.Add(d)
		return &t
	}
	trace := func(entity string, from, to time.Duration, lost int64) event.Trace {
		return event.Trace{
			Timestamp: *at(from), Event: event.Meta{End: at(to)}, Process: event.Process{PID: 812, EntityID: entity},
			Culprit: event.TraceDetail{Lost: lost, EndedBecause: &event.Ended{Code: "it did"}},
		}
	}
	known := func(h *event.Hit) { h.Process = &event.Process{PID: 812, EntityID: "812-1"} }
	program := func(reason *event.Untraced, traced bool) []event.Program {
		return []event.Program{{Process: event.Process{EntityID: "812-1"}, Culprit: event.ProgramDetail{Reason: reason, Traced: traced}}}
	}
	for _, tt := range []struct {
		name     string
		change   func(*event.Hit)
		traces   []event.Trace
		programs []event.Program
		want     string
		after    time.Duration
	}{
		{"no capture", func(h *event.Hit) { h.Culprit.Capture, h.Culprit.NoCapture = nil, &event.NoCapture{Code: "never"} }, nil, nil, "never", time.Minute},
		{"proven", func(h *event.Hit) { h.Culprit.Proof = &event.ProofDetail{} }, nil, nil, "", time.Minute},
		{"probable", func(h *event.Hit) { h.Culprit.Proof = &event.ProofDetail{Probable: true} }, nil, nil, "only a part of the bytes", time.Minute},
		{"too young", nil, nil, nil, "not yet", time.Second},
		{"nothing traced", nil, []event.Trace{trace("1-1", time.Second, time.Minute, 0)}, nil, "no process was traced yet", time.Minute},
		{"others traced", nil, []event.Trace{trace("1-1", -time.Second, time.Minute, 0)}, nil, "none of the 1 trace that ran then", time.Minute},
		{"too late", known, []event.Trace{trace("812-1", 5*time.Millisecond, time.Minute, 0)}, nil, "strace was on process 812 4ms after it sent the packet", time.Minute},
		{"ended", known, []event.Trace{trace("812-1", -time.Minute, -time.Second, 0)}, nil, "had ended by then: it did", time.Minute},
		{"lost", known, []event.Trace{trace("812-1", -time.Minute, time.Minute, 9)}, nil, "lost 9 bytes", time.Minute},
		{"io_uring", known, []event.Trace{trace("812-1", -time.Minute, time.Minute, 0)}, nil, "io_uring", time.Minute},
		{"not traced", known, nil, nil, "process 812 was not traced", time.Minute},
		{"not traced, known why", known, nil, program(&event.Untraced{Code: event.UntracedLevel, Detail: "1 allows 5"}, false), "process 812 was not traced: level 1 allows 5 processes", time.Minute},
		{"descendant", known, nil, program(nil, true), "traced with its parent", time.Minute},
	} {
		h := sentHit("C", badzoneQuery(1))
		if tt.change != nil {
			tt.change(h)
		}
		if got := unproven(h, tt.traces, tt.programs, sentAt.Add(tt.after)); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A proof is waited for only while a daemon runs that may find it. Then the clock has no
// say any more, and a capture can be exported twice as the same bytes.
func TestUnprovenWithoutDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	s := open(t, dir)
	c := aCapture(event.StateEnded)
	s.Capture(c)
	h := sentHit(c.Event.ID, badzoneQuery(1))
	h.Timestamp = time.Now()
	s.Hit(h)
	r := reader(t, dir)
	if why, err := r.Unproven(h); err != nil || !strings.HasPrefix(why, "not yet") {
		t.Errorf("while a daemon runs the hit says %q, %v", why, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const want = "no process was traced yet when the packet was sent"
	if why, err := r.Unproven(h); err != nil || why != want {
		t.Errorf("the hit says %q, %v; want %q", why, err, want)
	}
	if rc, err := r.Case(c); err != nil || rc.Unproven[h.Event.ID] != want {
		t.Errorf("in a report the hit says %q, %v; want %q", rc.Unproven[h.Event.ID], err, want)
	}
}

// A catalogue of the first version is brought up to date, and nothing is lost.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	db, err := sql.Open("sqlite", filepath.Join(dir, catalogueName))
	if err != nil {
		t.Fatal(err)
	}
	h := aHit("7", "a")
	_, err = db.Exec(schema+"PRAGMA user_version = 1; INSERT INTO hits VALUES (?, 'a', 7, 'C', 1, ?, x'45')", h.Event.ID, document(h))
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(dir); err == nil || !strings.Contains(err.Error(), "culprit run") {
		t.Errorf("a reader of the old version: %v", err)
	}
	for range 2 {
		s := open(t, dir)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if hits := all(t, reader(t, dir).Hits(Filter{})); len(hits) != 1 || hits[0].Event.ID != h.Event.ID {
		t.Errorf("the hits are %+v", hits)
	}
}
