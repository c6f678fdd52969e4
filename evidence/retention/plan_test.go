package retention

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"culprit/evidence/directory"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	// Traces are given as "HOURS-SIZE", how old and how large they are, and with o for
	// open, r for of a running capture, p for proven.
	now := time.Now()
	anything := Bounds{Keep: 1000 * time.Hour, MaxBytes: math.MaxInt64}
	bounded := func(change func(*Bounds)) Bounds {
		b := anything
		change(&b)
		return b
	}
	for _, tt := range []struct {
		name   string
		b      Bounds
		u      usage
		traces string
		want   string
	}{
		{"nothing", anything, usage{}, "", ""},
		{"enough", anything, usage{}, "1-5 900-5", ""},
		{"age", bounded(func(b *Bounds) { b.Keep = 24 * time.Hour }), usage{}, "1-1 26-1 30-1 27-1p 40-1r 40-1o", "30-1:keep 26-1:keep 27-1p:keep"},
		{"age in steps", bounded(func(b *Bounds) { b.Keep = 48 * time.Hour }), usage{}, "48-1 50-1", "50-1:keep"},
		{"size", bounded(func(b *Bounds) { b.MaxBytes = 10 }), usage{}, "1-3 2-3 4-3 3-3", "4-3:max_bytes"},
		{"size, proven last", bounded(func(b *Bounds) { b.MaxBytes = 5 }), usage{}, "1-3 2-3 9-3p 8-3p", "2-3:max_bytes 1-3:max_bytes 9-3p:max_bytes"},
		{"size with the catalogue", bounded(func(b *Bounds) { b.MaxBytes = 10 }), usage{catalogue: 5}, "1-3 2-3", "2-3:max_bytes"},
		{"what is running counts and stays", bounded(func(b *Bounds) { b.MaxBytes = 5 }), usage{}, "9-5r 8-5o 1-1", "1-1:max_bytes"},
		{"age before size", bounded(func(b *Bounds) { b.Keep, b.MaxBytes = 24*time.Hour, 6 }), usage{}, "1-3 2-3 99-3p", "99-3p:keep"},
		{"free", bounded(func(b *Bounds) { b.MinFree = 10 }), usage{free: 5}, "1-3 2-3 3-3", "3-3:min_free 2-3:min_free"},
		{"free spares proofs", bounded(func(b *Bounds) { b.MinFree = 10 }), usage{}, "1-3 2-3p", "1-3:min_free"},
		{"size, then free", bounded(func(b *Bounds) { b.MinFree, b.MaxBytes = 6, 6 }), usage{}, "1-3 2-3 3-3", "3-3:max_bytes 2-3:min_free"},
	} {
		var traces []stored
		for _, s := range strings.Fields(tt.traces) {
			var hours int
			st := stored{name: s, open: strings.HasSuffix(s, "o"), running: strings.HasSuffix(s, "r"), proven: strings.HasSuffix(s, "p")}
			fmt.Sscanf(s, "%d-%d", &hours, &st.size)
			st.id = ulid.MustParse(fixture.IDAt(now.Add(-time.Duration(hours) * time.Hour)))
			traces = append(traces, st)
		}
		var got []string
		short := map[event.RemovedCode]string{event.RemovedKeep: "keep", event.RemovedMaxBytes: "max_bytes", event.RemovedMinFree: "min_free"}
		for _, r := range plan(tt.b, now, tt.u, traces) {
			got = append(got, r.Name+":"+short[r.Why])
		}
		if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestRemovalWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    Removal
		what string
	}{
		{Removal{Name: "traces/C/1-sh-X.strace", Why: event.RemovedKeep}, RemovedTrace},
		{Removal{Name: "traces/C/1-sh-X.strace", Why: event.RemovedMaxBytes}, RemovedTrace},
		{Removal{Name: "traces/C/" + directory.Packets, Why: event.RemovedMinFree}, RemovedPackets},
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
}
