package evidence

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/internal/fixture"
	"culprit/evidence/retention"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

func TestPrune(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bounds := retention.Bounds{Keep: 720 * time.Hour, MaxBytes: 1 << 40, Compress: true}
	if _, err := Prune(t.Context(), dir, bounds, false, fixture.Log); err == nil || !strings.Contains(err.Error(), "has culprit run") {
		t.Errorf("without a catalogue: %v", err)
	}
	s := open(t, dir)
	trace := func(age time.Duration) event.Trace {
		c := fixture.Capture(event.StateLost) // one that ends has packets, too
		c.Event.ID = fixture.IDAt(time.Now().Add(-age))
		tr := fixture.Trace(c.Event.ID, "H", event.StateEnded)
		tr.Event.ID = c.Event.ID
		f, err := s.Create(&tr)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		s.Capture(c)
		s.Trace(tr)
		return tr
	}
	old, recent := trace(1000*time.Hour), trace(time.Hour)
	testkit.Eventually(t, "both are recorded", func() error {
		if n := len(fixture.All(t, reader(t, dir).Traces(catalogue.Filter{}))); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if _, err := Prune(t.Context(), dir, bounds, false, fixture.Log); err == nil || !strings.Contains(err.Error(), "--dry-run") {
		t.Errorf("beside a daemon: %v", err)
	}
	there := func(tr event.Trace, suffix string) bool {
		_, err := os.Lstat(tr.File.Path + suffix)
		return err == nil
	}
	dry := func(when string) {
		r, err := Prune(t.Context(), dir, bounds, true, fixture.Log)
		if err != nil || len(r.Removed) != 1 || r.Compressed != 2 || r.Expired["traces"] != 1 {
			t.Errorf("dry run %s a daemon: %+v, %v", when, r, err)
		}
		if !there(old, "") || !there(recent, "") {
			t.Errorf("a dry run %s a daemon did something", when)
		}
	}
	dry("beside")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dry("after")
	r, err := Prune(t.Context(), dir, bounds, false, fixture.Log)
	if err != nil || len(r.Removed) != 1 || there(old, "") || there(old, tracefile.Suffix) || there(recent, "") || !there(recent, tracefile.Suffix) {
		t.Errorf("%+v, %v", r, err)
	}
}
