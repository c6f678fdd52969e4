package catalogue

import (
	"fmt"
	"strings"
	"testing"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// What has no room is counted in the catalogue, at once, and leaves a gap in the numbers,
// also over a restart; when there is room again the loss is sent out, once.
func TestEventsWithoutRoom(t *testing.T) {
	t.Parallel()
	outbox := NewOutbox(0)
	c, _, done := open(t, t.TempDir(), outbox)
	defer done()
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
	// Room again.
	outbox.limit = 1 << 20
	write(t, c, hits(30, 31)...)
	write(t, c, hits(31, 32)...)
	var docs string
	if err := c.db.QueryRow("SELECT group_concat(doc, '') FROM events WHERE sequence > 30").Scan(&docs); err != nil || strings.Count(docs, "\n") != 3 || strings.Count(docs, `"code":"unsent"`) != 1 {
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
	if n, err := c.NoteRemoved(t.Context(), []RemovedFile{{"T", event.RemovedKeep}, {"", event.RemovedKeep}, {"T2", event.RemovedKeep}}); n != 3 || err != nil {
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
