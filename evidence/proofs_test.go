package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// sendLine is a line of strace that sends the payload.
func sendLine(tid int, payload []byte) string {
	return fmt.Sprintf("%d %d.000000 sendto(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, %s, %d, 0, NULL, 0) = %d <0.00001>\n", tid, fixture.SentAt.Unix(), quoted(string(payload)), len(payload), len(payload))
}

// quoted writes a string as strace does.
func quoted(payload string) string {
	var s strings.Builder
	for _, c := range []byte(payload) {
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return `"` + s.String() + `"`
}

// lookup is what the hits of TestProofs are of: a child of a traced shell, which is known
// only when it has ended.
const lookup = 1<<23 + 1

// recordLookup records a capture with a trace and two hits, the first of which a line of the
// trace sent, in an order.
func recordLookup(t *testing.T, dir, order string) (tr event.Trace, hit *event.Hit, text string) {
	t.Helper()
	s := open(t, dir)
	c := fixture.Capture(event.StateRunning)
	s.Capture(c)
	tr = event.Trace{
		Timestamp: fixture.SentAt.Add(-time.Second), Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace},
		User: event.User{ID: "7"}, Rule: &event.Rule{Name: "a"}, Process: event.Process{PID: 1 << 23, Name: "sh", CommandLine: "sh -c x"},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: event.StateRunning},
	}
	hit = fixture.SentHit(c.Event.ID, fixture.Query(1))
	other := fixture.SentHit(c.Event.ID, fixture.Query(2))
	f, err := s.Create(&tr)
	if err != nil {
		t.Fatal(err)
	}
	text = "# header\n" + fmt.Sprintf("%d %d.000000 close(3) = 0 <0.1>\n", lookup, fixture.SentAt.Unix()) + sendLine(lookup, fixture.Query(1))
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
	end := fixture.SentAt.Add(time.Second)
	s.Program(event.Program{
		Event:   event.Meta{ID: event.NewID(), End: &end},
		Process: event.Process{PID: lookup, CommandLine: "lookup", Start: fixture.SentAt.Add(-time.Second), Parent: &event.Process{PID: tr.Process.PID}},
		Culprit: event.ProgramDetail{Capture: tr.Culprit.Capture},
	})
	tr.Culprit.State = event.StateEnded
	s.Trace(tr)
	c.Culprit.State = event.StateEnded
	s.Capture(c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return tr, hit, text
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
			tr, hit, text := recordLookup(t, dir, order)
			want := "lookup"
			if order == "only afterwards" {
				want = tr.Process.CommandLine // programs are not asked
				if err := os.WriteFile(tr.File.Path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				s := open(t, dir)
				if done, err := s.Prove(""); err != nil || done.Found != 1 || done.Hits != 2 || done.Traces != 1 || len(done.Unread) != 0 {
					t.Errorf("prove: %+v, %v", done, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r := reader(t, dir)
			hits := fixture.All(t, r.Hits(catalogue.Filter{}))
			p := hits[0].Culprit.Proof
			if p == nil || p.Probable || p.Line != 3 || p.TID != lookup || p.Syscall != "sendto" || p.Trace.ID != tr.Event.ID || !strings.HasPrefix(text[p.Offset:], fmt.Sprint(lookup, " ")) {
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
			traces := fixture.All(t, r.Traces(catalogue.Filter{}))
			if ps := traces[0].Culprit.Proofs; len(ps) != 1 || ps[0].Hit.ID != hit.Event.ID {
				t.Errorf("the trace's proofs are %+v", ps)
			}
			if info, err := os.Stat(filepath.Join(dir, "traces", tr.Culprit.Capture.ID, directory.Packets)); err != nil || info.Mode() != 0o600 || info.Size() < 200 {
				t.Errorf("the packets: %v, %v", info, err)
			}
		})
	}
}

// A finished trace proves packets that two calls made, and those that the kernel saw a call send
// whose bytes do not show, however long it takes.
func TestProveLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	s := open(t, dir)
	c := fixture.Capture(event.StateEnded)
	s.Capture(c)
	tr := fixture.Trace(c.Event.ID, "H", event.StateEnded)
	f, err := s.Create(&tr)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	s.Trace(tr)
	joined, seen := fixture.SentHit(c.Event.ID, fixture.Query(1)), fixture.SentHit(c.Event.ID, fixture.Query(2))
	seen.Timestamp = fixture.SentAt.Add(30 * time.Second)
	seen.Process, seen.Culprit.Origin = &event.Process{PID: 812, CommandLine: "php cron.php"}, event.Origin{Grade: event.GradeKernel}
	seen.Culprit.Sent = &event.Sent{Timestamp: seen.Timestamp, TID: 813, Syscall: "sendfile"}
	s.Hit(joined)
	s.Hit(seen)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	first, second := string(fixture.Query(1)[:20]), string(fixture.Query(1)[20:])
	at := fixture.SentAt.Unix()
	text := fmt.Sprintf("812 %d.000000 sendto(3<UDP:[4711]>, %s, 20, MSG_MORE, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = 20 <0.00001>\n", at, quoted(first)) +
		fmt.Sprintf("812 %d.000100 sendto(3<UDP:[0.0.0.0:4000]>, %s, %d, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = %d <0.00001>\n", at, quoted(second), len(second), len(second)) +
		fmt.Sprintf("813 %d.000200 sendfile(4<UDP:[127.0.0.1:4000->127.0.0.1:53]>, 5</tmp/x>, NULL, 33) = 33 <59.1>\n", at)
	if err := os.WriteFile(tr.File.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if done, err := s.Prove(""); err != nil || done.Found != 2 {
		t.Errorf("prove: %+v, %v", done, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	hits := fixture.All(t, reader(t, dir).Hits(catalogue.Filter{}))
	if p := hits[0].Culprit.Proof; p == nil || p.Probable || p.Kernel || p.Line != 2 || len(p.Parts) != 1 || p.Parts[0] != (event.Line{Syscall: "sendto", Line: 1}) {
		t.Errorf("the proof of two calls is %+v", p)
	}
	h := &hits[1]
	if p := h.Culprit.Proof; p == nil || p.Probable || !p.Kernel || p.Line != 3 || p.TID != 813 || h.Process.CommandLine != "php cron.php" || h.Culprit.Origin.Grade != event.GradeProof {
		t.Errorf("the proof by the kernel's word is %+v, of %+v", p, h.Process)
	}
}

// A proof is waited for only while a daemon runs that may find it. Then the clock has no
// say any more, and a capture can be exported twice as the same bytes.
func TestUnprovenWithoutDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	s := open(t, dir)
	c := fixture.Capture(event.StateEnded)
	s.Capture(c)
	h := fixture.SentHit(c.Event.ID, fixture.Query(1))
	h.Timestamp = time.Now()
	s.Hit(h)
	r := reader(t, dir)
	if why, err := dossier.Unproven(r, h); err != nil || !strings.HasPrefix(why, "not yet") {
		t.Errorf("while a daemon runs the hit says %q, %v", why, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const want = "no process was traced yet when the packet was sent"
	if why, err := dossier.Unproven(r, h); err != nil || why != want {
		t.Errorf("the hit says %q, %v; want %q", why, err, want)
	}
	if rc, err := dossier.Case(r, c); err != nil || rc.Unproven[h.Event.ID] != want {
		t.Errorf("in a report the hit says %q, %v; want %q", rc.Unproven[h.Event.ID], err, want)
	}
}
