package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/internal/event"
)

var discard = slog.New(slog.DiscardHandler)

// hitOf makes a hit of a host that asks for a name.
func hitOf(host, name string) *event.Hit {
	return &event.Hit{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
		Rule: event.Rule{Name: "badzone"}, User: &event.User{ID: "7"}, Host: &event.Host{Name: host},
		Network: event.Network{Transport: "udp", Type: "ipv4", Bytes: 60},
		Source:  event.Endpoint{IP: netip.MustParseAddr("192.0.2.1"), Port: 4000},
		DNS:     &event.DNS{ID: "1", Question: event.Question{Name: name, Type: "A", Class: "IN"}},
		Culprit: event.HitDetail{Count: 1, Origin: event.Origin{Grade: event.GradeSocket}, Raw: []byte{0x45, 0, 1, 2}},
	}
}

func proofOf(host, hit string) event.Proof {
	return event.Proof{
		Event: event.Meta{ID: event.NewID(), Action: event.ActionProof}, Host: &event.Host{Name: host}, User: event.User{ID: "7"},
		Culprit: event.ProofDetail{Capture: event.Reference{ID: event.NewID()}, Hit: event.Reference{ID: hit}, Trace: event.Reference{ID: event.NewID()}, Line: 3},
	}
}

// lines are documents as a message has them.
func lines(t testing.TB, documents ...any) (b []byte) {
	t.Helper()
	for _, d := range documents {
		one, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b, one...), '\n')
	}
	return b
}

func message(sequence uint64, host string, data []byte) Message {
	return Message{Sequence: sequence, Host: host, Time: time.Now(), Data: data}
}

func openMirror(t testing.TB, dir string) *Mirror {
	t.Helper()
	m, err := Open(dir, discard)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// position is that of the mirror in the stream of these tests.
func position(t testing.TB, m *Mirror) catalogue.Position {
	t.Helper()
	p, err := m.catalogue.Position("culprit_events")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func taken(t testing.TB, m *Mirror, messages ...Message) {
	t.Helper()
	if _, err := m.take(t.Context(), position(t, m), messages); err != nil {
		t.Fatal(err)
	}
}

// hits are those of the mirror, by host, name, count and proof.
func hits(t testing.TB, dir string) (all []string) {
	t.Helper()
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for h, err := range r.Hits(catalogue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(h.Host, " ", h.DNS.Question.Name, " ", h.Culprit.Count, " ", h.Culprit.Proof != nil, " ", len(h.Packet)))
	}
	return all
}

func lost(t testing.TB, dir string) map[string]uint64 {
	t.Helper()
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := map[string]uint64{}
	for l, err := range r.Losses(catalogue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprintf("%s %s %s", l.Host, l.Culprit.Code, l.Culprit.Detail)] += l.Culprit.Count
	}
	return all
}

// Each message counts once, whatever is told again, and a mirror that is opened again goes on where it was.
func TestOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := hitOf("web1", "a.test"), hitOf("web2", "b.test")
	again := *a
	again.Culprit.Count, again.Culprit.Raw = 5, nil
	all := []Message{
		message(1, "web1", lines(t, a, proofOf("web1", a.Event.ID))),
		message(2, "web2", lines(t, b)),
		message(3, "web1", lines(t, again)),
	}
	for range 3 {
		m := openMirror(t, dir)
		taken(t, m, all...)
		if _, err := Open(dir, discard); !errors.As(err, new(*directory.LockedError)) {
			t.Errorf("a second one: %v", err)
		}
		m.Close()
	}
	want := []string{"web1 a.test 5 true 4", "web2 b.test 1 false 4"}
	if d := cmp.Diff(want, hits(t, dir)); d != "" {
		t.Error(d)
	}
	m := openMirror(t, dir)
	taken(t, m, message(10, "web1", lines(t, hitOf("web1", "c.test"))))
	m.Close()
	if d := cmp.Diff(map[string]uint64{" unread ": 6}, lost(t, dir)); d != "" {
		t.Error(d)
	}
}

// What a hostile host sends changes nothing of others, and is counted.
func TestHostile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := openMirror(t, dir)
	defer m.Close()
	a := hitOf("web1", "a.test")
	capture := event.Capture{Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Action: event.ActionCapture}, Host: &event.Host{Name: "web1", Hostname: "x"}, User: event.User{ID: "7"}, Culprit: event.CaptureDetail{State: event.StateEnded}}
	taken(t, m, message(1, "web1", lines(t, a, capture)))

	over := hitOf("evil", "over.test")
	over.Event.ID = a.Event.ID
	joins := hitOf("evil", "joins.test")
	joins.Culprit.Capture = &event.Reference{ID: capture.Event.ID}
	future := hitOf("evil", "future.test")
	future.Event.ID = "7" + future.Event.ID[1:]
	trace := func(path string) event.Trace {
		return event.Trace{
			Event: event.Meta{ID: event.NewID(), Action: event.ActionTrace}, Host: &event.Host{Name: "evil"}, User: event.User{ID: "7"},
			File: event.File{Path: path}, Culprit: event.TraceDetail{Capture: event.Reference{ID: event.NewID()}, State: event.StateEnded},
		}
	}
	deep := hitOf("evil", "deep.test")
	for range 2 * maxParents {
		deep.Process = &event.Process{PID: 1, Parent: deep.Process}
	}
	loss := event.NewLoss(event.LossKernel, "", 1<<64-1)
	loss.Host = &event.Host{Name: "evil"}
	taken(t, m,
		message(2, "evil", lines(t, over, joins, proofOf("evil", a.Event.ID))),
		message(3, "evil", lines(t, hitOf("web1", "forged.test"))),
		message(4, "evil", lines(t, future, trace("../../etc/passwd"), trace("/x/812-php-"+event.NewID()+".strace"), deep)),
		message(5, "evil", []byte("not JSON\n\n{\"event\":{}}\n"+strings.Repeat("[", 100_000))),
		message(6, "evil", bytes.Repeat([]byte{'x'}, maxLine+1)),
		message(7, "", lines(t, a)),
		message(8, "evil", lines(t, loss, hitOf("evil", "kept.test"))),
	)
	if d := cmp.Diff([]string{"web1 a.test 1 false 4", "evil kept.test 1 false 4"}, hits(t, dir)); d != "" {
		t.Error(d)
	}
	want := map[string]uint64{
		"evil untaken foreign": 3, "evil untaken host": 2, "evil untaken id": 4, "evil untaken json": 3, "evil untaken long": 1,
		" untaken forged": 1, "evil kernel ": maxCount,
	}
	if d := cmp.Diff(want, lost(t, dir)); d != "" {
		t.Error(d)
	}
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if hosts, err := r.Hosts(); err != nil || len(hosts) != 2 || hosts["evil"] != 1 {
		t.Error(hosts, err)
	}
	found, err := r.Find(capture.Event.ID)
	if err != nil || found.Capture.Host.Name != "web1" || found.Capture.Host.Hostname != "x" {
		t.Errorf("the capture is %+v, %v", found.Capture, err)
	}
}

// A directory is either evidence of this machine or a mirror.
func TestNotMixed(t *testing.T) {
	t.Parallel()
	own, mirrored := t.TempDir(), t.TempDir()
	s, err := evidence.Open(own, discard)
	if err != nil {
		t.Fatal(err)
	}
	s.Hit(hitOf("", "own.test"))
	s.Close()
	if _, err := Open(own, discard); err == nil || !strings.Contains(err.Error(), "fleet.dir") {
		t.Errorf("a mirror in the evidence: %v", err)
	}
	m := openMirror(t, mirrored)
	taken(t, m, message(1, "web1", lines(t, hitOf("web1", "a.test"))))
	m.Close()
	if _, err := evidence.Open(mirrored, discard); err == nil || !strings.Contains(err.Error(), "mirror of a fleet") {
		t.Errorf("evidence in a mirror: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	h := hitOf("web1", "a.test")
	for _, d := range []any{
		h, proofOf("web1", h.Event.ID),
		event.Loss{Event: event.Meta{ID: h.Event.ID, Action: event.ActionLoss}, Host: &event.Host{Name: "web1"}},
		event.Capture{Event: event.Meta{ID: h.Event.ID, Action: event.ActionCapture}, Host: &event.Host{Name: "web1"}},
		event.Snapshot{Event: event.Meta{ID: h.Event.ID, Action: event.ActionSnapshot}, Host: &event.Host{Name: "web1"}},
	} {
		f.Add(lines(f, d))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		d, err := decode("web1", line, time.Now())
		if err != nil {
			return
		}
		if _, err := json.Marshal(d); err != nil {
			t.Error(err)
		}
	})
}
