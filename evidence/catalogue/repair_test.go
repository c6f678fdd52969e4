package evidence

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/words"
)

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for err := ok(); err != nil; err = ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// has waits until the catalogue has a hit that is recorded meanwhile.
func has(t *testing.T, s *Store, dir string) {
	t.Helper()
	eventually(t, "a hit is recorded", func() error {
		h := aHit("7", "a") // it is the store's from then on
		s.Hit(h)
		r, err := OpenReader(dir)
		if err != nil {
			return err
		}
		defer r.Close()
		for got, err := range r.Hits(Filter{id: h.Event.ID}) {
			if err == nil && got.Event.ID == h.Event.ID {
				return nil
			}
		}
		return fmt.Errorf("%s is not", h.Event.ID)
	})
}

func losses(t *testing.T, dir string) (text string) {
	t.Helper()
	for _, l := range all(t, reader(t, dir).Losses(Filter{})) {
		text += fmt.Sprintf("%d %s\n", l.Culprit.Count, words.Loss(l.Culprit))
	}
	return text
}

// sweepOnce runs the Keeper for one sweep, and returns what that tells of itself.
func sweepOnce(t *testing.T, k *Keeper) (err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k.Swept = func(_ Report, its error) { err = its; cancel() }
	k.Run(ctx)
	return err
}

// An evidence directory that is moved is not written to until it is back, nor is another
// one in its place; what could not be recorded meanwhile is counted.
func TestMoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "evidence")
	s := open(t, dir)
	k := s.Keeper(Bounds{Keep: time.Hour, MaxBytes: 1 << 30})
	has(t, s, dir)
	if err := k.Room(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	refused := func(says string) {
		t.Helper()
		before := s.dropped.Load()
		const hits = 5
		for range hits {
			s.Hit(aHit("7", "a"))
		}
		eventually(t, "the hits are counted as lost", func() error {
			if n := s.dropped.Load() - before; n < hits {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		if err := k.Room(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("room for a trace: %v, want %q", err, says)
		}
		if err := sweepOnce(t, k); err == nil || !strings.Contains(err.Error(), says) {
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
	if err := sweepOnce(t, k); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l := losses(t, dir); !strings.Contains(l, "hits, proofs and programs not recorded") {
		t.Errorf("the losses are %q", l)
	}
	if n := len(all(t, reader(t, dir).Hits(Filter{}))); n < 2 {
		t.Errorf("%d hits", n)
	}
}

// A catalogue that is damaged, removed or replaced while we run is kept aside, and a new
// one begins; what was to be written then is in it.
func TestRenew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(file string) error
		says string
	}{
		"damaged": {func(file string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			garbage := make([]byte, 8<<20)
			rand.Read(garbage)
			_, err = f.WriteAt(garbage, 4096)
			return err
		}, "was damaged"},
		"removed": {os.Remove, "removed or replaced"},
		"replaced": {func(file string) error {
			if err := os.WriteFile(file+".new", []byte("somebody else's"), 0o600); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		}, "removed or replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			// More than SQLite keeps in memory.
			var first string
			for i := range 3000 {
				h := aHit("7", "a")
				h.Packet = make([]byte, 2000)
				if i == 0 {
					first = h.Event.ID
				}
				s.Hit(h)
			}
			eventually(t, "all is written", func() error {
				if n := len(all(t, reader(t, dir).Hits(Filter{}))); n != 3000 {
					return fmt.Errorf("%d hits", n)
				}
				return nil
			})
			if _, err := s.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
				t.Fatal(err)
			}
			c2 := aCapture(event.StateRunning)
			if err := c.harm(filepath.Join(dir, catalogueName)); err != nil {
				t.Fatal(err)
			}
			s.Repeated(first, 3) // which reads the page of that hit
			s.Capture(c2)
			has(t, s, dir)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if l := losses(t, dir); !strings.Contains(l, c.says) {
				t.Errorf("the losses are %q, want %q", l, c.says)
			}
			if cs := all(t, reader(t, dir).Captures(Filter{})); len(cs) != 1 || cs[0].Event.ID != c2.Event.ID {
				t.Errorf("the captures are %+v", cs)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, catalogueName+".damaged-*"))
			if name != "removed" && len(aside) == 0 {
				t.Error("nothing is kept aside")
			}
			// The next culprit finds nothing wrong.
			s = open(t, dir)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if again, _ := filepath.Glob(filepath.Join(dir, catalogueName+".damaged-*")); len(again) != len(aside) {
				t.Errorf("after another start there are %v", again)
			}
		})
	}
}

// If no new catalogue can begin, as the disk is full, the damaged one is not forgotten.
func TestRenewOnFullDisk(t *testing.T) {
	t.Parallel()
	dir, done := smallDisk(t)
	if done {
		return
	}
	s := open(t, dir)
	has(t, s, dir)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 9<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for range 2 { // nothing is queued, so the writer rests
		if aside, err := s.renew(errors.New("it is malformed")); err == nil {
			t.Fatalf("another catalogue began, of before is %q", aside)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	has(t, s, dir)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, asidePrefix+"*[0-9]"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("kept aside are %v (%v), want one", aside, err)
	}
	if l := losses(t, dir); l != "1 the catalogue was damaged, its hits and captures are in "+filepath.Base(aside[0])+"\n" {
		t.Errorf("the losses are %q", l)
	}
	kept, err := sql.Open("sqlite", "file:"+aside[0]+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	var hits int
	if err := kept.QueryRow("SELECT count(*) FROM hits").Scan(&hits); err != nil || hits == 0 {
		t.Errorf("%s has %d hits (%v)", aside[0], hits, err)
	}
}

// What waits for a catalogue that cannot be written does not grow for ever.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	b := newBatch()
	const rounds, each = 50, 1000
	for range rounds {
		for i := range each {
			c, tr := aCapture(event.StateEnded), event.Trace{Event: event.Meta{ID: event.NewID()}}
			b.add(c)
			b.add(tr)
			b.add(packetsDue{c})
			b.add(event.NewLoss(event.LossCode(fmt.Sprint("of kind ", i%7)), "", 1))
			b.add(event.NewLoss(event.LossCode(event.NewID()), "", 1))
			b.add(aHit("7", "a"))
		}
		b = b.kept()
		if size := b.size(); size > 2*maxKept+maxLosses+3 {
			t.Fatalf("%d changes are kept", size)
		}
	}
	count := map[string]uint64{}
	var sum uint64
	for _, l := range b.losses {
		count[words.Loss(l.Culprit)] += l.Culprit.Count
		sum += l.Culprit.Count
	}
	lost := count["captures and traces not recorded: the catalogue could not be written for too long"] + uint64(len(b.captures)+len(b.traces))
	packets := count["packet files not recorded: the catalogue could not be written for too long"] + uint64(len(b.packets))
	if lost != rounds*each*2 || packets != rounds*each || count["of kind 3"] < rounds*each/7-rounds {
		t.Errorf("%d captures and traces, %d packet files, %d losses of one kind", lost, packets, count["of kind 3"])
	}
	if others := sum - lost - packets + uint64(len(b.captures)+len(b.traces)+len(b.packets)); others != rounds*each*2 {
		t.Errorf("%d other losses, want %d", others, rounds*each*2)
	}
}

// A report of a capture that lived through weeks of losses holds a bounded number of them,
// and counts all.
func TestLossesOfCapture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	c := aCapture(event.StateEnded)
	c.Event.End = nil
	const n = 3 * caseLosses
	for i := range n {
		s.Lost(event.NewLoss(event.LossCode(fmt.Sprint("of kind ", i%3)), "", 2))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ls, err := reader(t, dir).lossesOf(&c)
	if err != nil {
		t.Fatal(err)
	}
	var count uint64
	for _, l := range ls {
		count += l.Culprit.Count
	}
	if len(ls) != caseLosses+3 || count != 2*n {
		t.Errorf("%d losses that count %d, want %d that count %d", len(ls), count, caseLosses+3, 2*n)
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
	s.Hit(aHit("7", "a"))
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
