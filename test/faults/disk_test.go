package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// A disk that is full stops writing, not hunting: hits go on being counted, and the
// first thing that is written afterwards says what was lost.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := filepath.Join(h.SmallDisk(8<<20), "evidence")
	d := h.HuntWith(h.ConfigureIn(dir, harness.Gated+fmt.Sprintf("evidence: {dir: %s, min_free: 0B}\n", dir)), dir)
	uid := harness.NewUID()
	s := d.Captured(uid)

	h.Fill(filepath.Join(filepath.Dir(dir), "full"))
	for i := range 200 {
		s.Ask(fmt.Sprintf("full%d.badzone.test", i))
	}
	// What is traced lives on.
	h.StartAs(uid, harness.Programs.OffenderC, "-n", "lives.badzone.test").Wait()
	d.AwaitLog("the catalogue cannot be written: hits are only counted; losses are recorded once it can be written again")
	if d.Ended() {
		t.Fatal("the daemon has ended")
	}
	h.Do(func() {
		if err := os.Remove(filepath.Join(filepath.Dir(dir), "full")); err != nil {
			t.Error(err)
		}
	})
	harness.Eventually(t, "hits are recorded again", func() error {
		s.Ask("free.badzone.test")
		if !strings.Contains(h.Culprit("hits", "--evidence", dir, "-n", "5").Out, "free.badzone.test") {
			return errors.New("they are not")
		}
		return nil
	})
	lost := h.Culprit("losses", "--evidence", dir).Must(t)
	if !strings.Contains(lost, "hits, proofs, programs and snapshots not recorded") {
		t.Errorf("nothing says what was lost:\n%s", lost)
	}
	d.Stop()
	h.Unharmed(uid)
}

// A list for which the disk of the evidence has no room is hunted all the same.
func TestDiskFullForLists(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := filepath.Join(h.SmallDisk(8<<20), "evidence")
	var names strings.Builder
	for i := range 500_000 {
		fmt.Fprintf(&names, "n%d.feed.example\n", i)
	}
	list := h.Write("feed.txt", names.String()+"evil.test\n")
	d := h.HuntWith(h.ConfigureIn(dir, harness.Gated+fmt.Sprintf("rules: [{name: feed, list: %s}]\nevidence: {dir: %s, min_free: 0B}\n", list, dir)), dir)
	h.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", "x.evil.test").Wait()
	d.Hit("x.evil.test")
	d.Stop()
}

// Where too little of the disk is free no new traces begin; hits are recorded.
func TestMinFree(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := filepath.Join(h.SmallDisk(8<<20), "evidence")
	d := h.HuntWith(h.ConfigureIn(dir, harness.Gated+fmt.Sprintf("evidence: {dir: %s, min_free: 16MiB}\n", dir)), dir)
	uid := harness.NewUID()
	s := h.Sender(uid)
	s.Ask("first.badzone.test")
	d.Hit("first.badzone.test")
	d.Capture(uid, "says why nothing is traced", func(c event.Capture) bool {
		return c.Culprit.Missed[event.UntracedNoFile] > 0 && strings.Contains(c.Culprit.Examples[0].Reason.Detail, "evidence.min_free (16.0 MiB)")
	})
	s.Ask("second.badzone.test")
	d.Hit("second.badzone.test")
	if ts := d.Traces(); len(ts) != 0 {
		t.Errorf("%d traces were begun", len(ts))
	}
	d.Stop()
	h.Unharmed(uid)
}
