package catalogue

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

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
			ours, _, done := open(t, dir, nil)
			// More than SQLite keeps in memory.
			var hits []*event.Hit
			for range 3000 {
				h := fixture.Hit("7", "a")
				h.Packet = make([]byte, 2000)
				hits = append(hits, h)
			}
			write(t, ours, hits...)
			if n := len(fixture.All(t, reader(t, dir).Hits(Filter{}))); n != 3000 {
				t.Fatalf("%d hits", n)
			}
			if _, err := ours.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
				t.Fatal(err)
			}
			c2 := fixture.Capture(event.StateRunning)
			if err := c.harm(filepath.Join(dir, fileName)); err != nil {
				t.Fatal(err)
			}
			b := NewBatch()
			b.Repeated(hits[0].Event.ID, 3) // which reads the page of that hit
			b.Capture(c2)
			last := fixture.Hit("7", "a")
			b.Hit(last)
			if err := ours.Write(b); err != nil {
				t.Fatal(err)
			}
			done()
			if hs := fixture.All(t, reader(t, dir).Hits(Filter{})); len(hs) != 1 || hs[0].Event.ID != last.Event.ID {
				t.Errorf("the hits are %+v", hs)
			}
			if l := fixture.LossTexts(t, reader(t, dir).Losses(Filter{})); !strings.Contains(l, c.says) {
				t.Errorf("the losses are %q, want %q", l, c.says)
			}
			if cs := fixture.All(t, reader(t, dir).Captures(Filter{})); len(cs) != 1 || cs[0].Event.ID != c2.Event.ID {
				t.Errorf("the captures are %+v", cs)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, fileName+".damaged-*"))
			if name != "removed" && len(aside) == 0 {
				t.Error("nothing is kept aside")
			}
			// The next culprit finds nothing wrong.
			_, _, done = open(t, dir, nil)
			done()
			if again, _ := filepath.Glob(filepath.Join(dir, fileName+".damaged-*")); len(again) != len(aside) {
				t.Errorf("after another start there are %v", again)
			}
		})
	}
}

// If no new catalogue can begin, as the disk is full, the damaged one is not forgotten.
func TestRenewOnFullDisk(t *testing.T) {
	t.Parallel()
	dir, elsewhere := fixture.SmallDisk(t)
	if elsewhere {
		return
	}
	c, _, done := open(t, dir, nil)
	write(t, c, fixture.Hit("7", "a"))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 9<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for range 2 {
		if aside, err := c.renew(errors.New("it is malformed")); err == nil {
			t.Fatalf("another catalogue began, of before is %q", aside)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	write(t, c, fixture.Hit("7", "a"))
	done()
	aside, err := filepath.Glob(filepath.Join(dir, asidePrefix+"*[0-9]"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("kept aside are %v (%v), want one", aside, err)
	}
	if l := fixture.LossTexts(t, reader(t, dir).Losses(Filter{})); l != "1 the catalogue was damaged: its hits and captures are in "+filepath.Base(aside[0])+"\n" {
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
