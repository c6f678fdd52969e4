package evidence

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/internal/fixture"
	"culprit/evidence/retention"
	"culprit/internal/testkit"
)

// has waits until the catalogue has a hit that is recorded meanwhile.
func has(t *testing.T, s *Store, dir string) {
	t.Helper()
	testkit.Eventually(t, "a hit is recorded", func() error {
		h := fixture.Hit("7", "a")
		s.Hit(h)
		r, err := catalogue.OpenReader(dir)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.Find(h.Event.ID)
		return err
	})
}

// sweepOnce runs a Sweeper for one sweep, and returns what that tells of itself.
func sweepOnce(t *testing.T, s *Store, b retention.Bounds) (err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Sweeper(b, func(_ retention.Report, its error) { err = its; cancel() }).Run(ctx)
	return err
}

// An evidence directory that is moved is not written to until it is back, nor is another
// one in its place; what could not be recorded meanwhile is counted.
func TestMoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "evidence")
	s := open(t, dir)
	b := retention.Bounds{Keep: time.Hour, MaxBytes: 1 << 30}
	k := s.Sweeper(b, nil)
	has(t, s, dir)
	if err := k.Room(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	refused := func(says string) {
		t.Helper()
		before := s.Counts().Dropped
		const hits = 5
		for range hits {
			s.Hit(fixture.Hit("7", "a"))
		}
		testkit.Eventually(t, "the hits are counted as lost", func() error {
			if n := s.Counts().Dropped - before; n < hits {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		if err := k.Room(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("room for a trace: %v, want %q", err, says)
		}
		if err := sweepOnce(t, s, b); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a sweep says %v, want %q", err, says)
		}
	}
	refused("was moved or removed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	refused("another directory is in the place")
	if made, _ := os.ReadDir(dir); len(made) > 0 {
		t.Errorf("the directory in its place holds %v", made)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".moved", dir); err != nil {
		t.Fatal(err)
	}
	has(t, s, dir)
	if err := k.Room(); err != nil {
		t.Error(err)
	}
	if err := sweepOnce(t, s, b); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l := fixture.LossTexts(t, reader(t, dir).Losses(catalogue.Filter{})); !strings.Contains(l, "hits, proofs, programs and snapshots not recorded") {
		t.Errorf("the losses are %q", l)
	}
	if n := len(fixture.All(t, reader(t, dir).Hits(catalogue.Filter{}))); n < 2 {
		t.Errorf("%d hits", n)
	}
}

// Beside a directory that is gone for good the store ends in good order, and the next one
// begins anew.
func TestRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "evidence")
	s := open(t, dir)
	has(t, s, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Hit(fixture.Hit("7", "a"))
	s.Close()
	if _, err := os.Stat(dir); err == nil || !os.IsNotExist(err) {
		t.Errorf("the directory is there again: %v", err)
	}
	s = open(t, dir)
	has(t, s, dir)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
