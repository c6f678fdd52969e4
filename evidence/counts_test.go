package evidence

import (
	"slices"
	"testing"

	"culprit/internal/event"
)

func TestRemovalWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    Removal
		what string
	}{
		{Removal{Name: "traces/C/1-sh-X.strace", Why: event.RemovedKeep}, RemovedTrace},
		{Removal{Name: "traces/C/1-sh-X.strace", Why: event.RemovedMaxBytes}, RemovedTrace},
		{Removal{Name: "traces/C/" + packetsName, Why: event.RemovedMinFree}, RemovedPackets},
	} {
		if what := c.r.What(); what != c.what {
			t.Errorf("%+v: %s, want %s", c.r, what, c.what)
		}
	}
}

func TestReportLeft(t *testing.T) {
	t.Parallel()
	r := Report{Bytes: 100, Free: 10, Removed: []Removal{{Size: 30}, {Size: 5}}}
	if evidence, room := r.Left(); evidence != 65 || room != 45 {
		t.Errorf("%d and %d, want 65 and 45", evidence, room)
	}
	if tables := Tables(); !slices.Contains(tables, "hits") {
		t.Errorf("the tables are %v", tables)
	}
}
