package evidence

import (
	"slices"
	"testing"
)

func TestRemovalWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r         Removal
		what, key string
	}{
		{Removal{Name: "traces/C/1-sh-X.strace", Why: becauseKeep}, RemovedTrace, RemovedKeep},
		{Removal{Name: "traces/C/1-sh-X.strace", Why: becauseMaxBytes}, RemovedTrace, RemovedMaxBytes},
		{Removal{Name: "traces/C/" + packetsName, Why: becauseMinFree}, RemovedPackets, RemovedMinFree},
	} {
		if what, key := c.r.Words(); what != c.what || key != c.key {
			t.Errorf("%+v: %s %s, want %s %s", c.r, what, key, c.what, c.key)
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
