package catalogue

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"culprit/evidence/directory"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// What has no room is counted in the catalogue, at once, and leaves a gap in the numbers,
// also over a restart; when there is room again the loss is sent out, once.
func TestEventsWithoutRoom(t *testing.T) {
	t.Parallel()
	outbox := NewOutbox(0)
	dir := t.TempDir()
	c, _, done := open(t, dir, outbox)
	defer func() { done() }()
	hits := func(from, to int) (all []*event.Hit) {
		for i := from; i < to; i++ {
			h := fixture.Hit("7", "r")
			h.Event.ID = fmt.Sprint("H", i)
			h.User, h.DNS, h.Process = nil, nil, nil
			all = append(all, h)
		}
		return all
	}
	outbox.limit = 4000
	for from := 0; from < 30; from += 10 {
		write(t, c, hits(from, from+10)...)
	}
	waiting := outbox.Waiting()
	lost := uint64(30 - waiting)
	if waiting == 0 || waiting > 20 || outbox.Lost() != lost {
		t.Fatalf("%d wait, %d are lost", waiting, outbox.Lost())
	}
	told := func() (rows int, count uint64) {
		if err := c.db.QueryRow("SELECT count(*), coalesce(sum(count), 0) FROM losses WHERE code = ?", string(event.LossUnsent)).Scan(&rows, &count); err != nil {
			t.Fatal(err)
		}
		return rows, count
	}
	if rows, count := told(); rows != 1 || count != lost {
		t.Errorf("%d losses of %d, want one of %d", rows, count, lost)
	}
	var last uint64
	if err := c.db.QueryRow("SELECT seq FROM sqlite_sequence WHERE name = 'events'").Scan(&last); err != nil || last != 30 {
		t.Errorf("a restart would go on after %d, %v; want 30", last, err)
	}
	// A restart does not forget what nobody was told.
	done()
	outbox = NewOutbox(0)
	outbox.limit = 4000
	c, _, done = open(t, dir, outbox)
	// Room again: nothing else need happen for it to be told.
	if err := outbox.Remove(uint64(waiting)); err != nil {
		t.Fatal(err)
	}
	write(t, c, hits(30, 31)...)
	var docs string
	if err := c.db.QueryRow("SELECT group_concat(doc, '') FROM events WHERE sequence > 30").Scan(&docs); err != nil || strings.Count(docs, "\n") != 2 || strings.Count(docs, `"code":"unsent"`) != 1 {
		t.Errorf("%v: with room again there are\n%s", err, docs)
	}
	if rows, count := told(); rows != 1 || count != lost {
		t.Errorf("in the end %d losses of %d, want one of %d", rows, count, lost)
	}
}

// What a sweep removes is told in the transaction that removes it.
func TestSweepsAreTold(t *testing.T) {
	t.Parallel()
	outbox := NewOutbox(0)
	c, _, done := open(t, t.TempDir(), outbox)
	defer done()
	if n, err := c.NoteRemoved(t.Context(), []RemovedFile{{Trace: "T", Because: event.RemovedKeep}, {Because: event.RemovedKeep}, {Trace: "T2", Because: event.RemovedKeep}}); n != 3 || err != nil {
		t.Fatalf("%d are noted, %v", n, err)
	}
	var told string
	err := outbox.Events(t.Context(), 0, 10, func(_ uint64, line string) bool {
		told += line
		return true
	})
	if err != nil || strings.Count(told, "\n") != 2 || strings.Count(told, `"detail":"keep"`) != 2 {
		t.Errorf("%v, told:\n%s", err, told)
	}
}

// Each outbox keeps its own events: what waits for the fleet is more, and has a bound of its own.
func TestFleetOutbox(t *testing.T) {
	t.Parallel()
	d, err := directory.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	local, fleet := NewOutbox(0), NewFleetOutbox("web1", maxWaiting)
	c, _, err := Open(d, []*Outbox{local, fleet}, fixture.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(c.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}()
	told := func(o *Outbox) (all []map[string]any) {
		t.Helper()
		err := o.Events(t.Context(), 0, 100, func(number uint64, line string) bool {
			var e map[string]any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	b := NewBatch()
	h := fixture.Hit("7", "r")
	b.Hit(h)
	b.Program(event.Program{Event: event.Meta{ID: "P", Action: event.ActionProgram}, User: event.User{ID: "7"}})
	capture := fixture.Capture(event.StateRunning)
	capture.Host = &event.Host{Hostname: "machine"}
	b.Capture(capture)
	b.Repeated(h.Event.ID, 3)
	if err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if got := told(local); len(got) != 3 {
		t.Errorf("%d events, want the hit twice and the capture: %v", len(got), got)
	}
	of := told(fleet)
	if len(of) != 4 || fleet.Waiting() != 4 {
		t.Fatalf("%d events, want the program, too: %v", len(of), of)
	}
	for _, e := range of {
		if host, _ := e["host"].(map[string]any); host["name"] != "web1" {
			t.Errorf("an event of the host %v", e["host"])
		}
	}
	packet := base64.StdEncoding.EncodeToString(h.Packet)
	if got := of[0]["culprit"].(map[string]any)["packet"]; got != packet {
		t.Errorf("the packet is %v", got)
	}
	if got := fmt.Sprint(told(local)); strings.Contains(got, packet) || strings.Contains(got, "web1") {
		t.Errorf("the events of this machine are %s", got)
	}
	var doc string
	if err := c.db.QueryRow("SELECT doc FROM hits").Scan(&doc); err != nil || strings.Contains(doc, "web1") {
		t.Errorf("%v: the hit became %s", err, doc)
	}
	// One is full, the other is not.
	fleet.limit = 1
	write(t, c, fixture.Hit("7", "r"))
	if local.Waiting() != 4 || fleet.Waiting() != 4 || fleet.Lost() != 1 || local.Lost() != 0 {
		t.Errorf("%d and %d wait, %d and %d are lost", local.Waiting(), fleet.Waiting(), local.Lost(), fleet.Lost())
	}
	if err := fleet.Remove(fleet.Last()); err != nil {
		t.Fatal(err)
	}
	fleet.limit = maxWaiting
	write(t, c, fixture.Hit("7", "r"))
	if got := fmt.Sprint(told(fleet)); !strings.Contains(got, string(event.LossUnsentFleet)) {
		t.Errorf("the fleet is not told what it lacks: %s", got)
	}
	id := fleet.ID()
	if err := fleet.Renew("theirs"); err != nil || fleet.ID() == id || id == "" || fleet.RenewedFor() != "theirs" {
		t.Errorf("%v: %s became %s, for %q", err, id, fleet.ID(), fleet.RenewedFor())
	}
	id = fleet.ID()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	fleet = NewFleetOutbox("web1", maxWaiting)
	if c, _, err = Open(d, []*Outbox{NewOutbox(0), fleet}, fixture.Log); err != nil {
		t.Fatal(err)
	}
	if fleet.ID() != id || fleet.RenewedFor() != "theirs" {
		t.Errorf("a restart made %s, for %q, of %s, for theirs", fleet.ID(), fleet.RenewedFor(), id)
	}
}
