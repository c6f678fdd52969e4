package test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
)

// smallDisk mounts a file system of that many bytes on the host and returns where.
func (h *host) smallDisk(bytes int) (dir string) {
	h.t.Helper()
	dir = filepath.Join(h.dir, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	var err error
	h.Do(func() { err = unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=700,size=%d", bytes)) })
	if err != nil {
		h.t.Fatal(err)
	}
	return dir
}

// A disk that is full stops writing, not hunting: hits go on being counted, and the
// first thing that is written afterwards says what was lost.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	dir := filepath.Join(h.smallDisk(8<<20), "evidence")
	d := h.huntWith(h.configureIn(dir, gated+fmt.Sprintf("evidence: {dir: %s, min_free: 0B}\n", dir)), dir)
	uid := newUID()
	s := d.captured(uid)

	h.fill(filepath.Join(filepath.Dir(dir), "full"))
	for i := range 200 {
		s.ask(fmt.Sprintf("full%d.badzone.test", i))
	}
	// What is traced lives on.
	h.start(uid, programs.offenderC, "-n", "lives.badzone.test").wait()
	d.awaitLog("the catalogue cannot be written: hits are counted, and what is lost is told once it can be")
	if d.ended() {
		t.Fatal("the daemon has ended")
	}
	h.Do(func() {
		if err := os.Remove(filepath.Join(filepath.Dir(dir), "full")); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "hits are recorded again", func() error {
		s.ask("free.badzone.test")
		if !strings.Contains(h.culprit("hits", "--evidence", dir, "-n", "5").out, "free.badzone.test") {
			return errors.New("they are not")
		}
		return nil
	})
	lost := h.culprit("losses", "--evidence", dir).must(t)
	if !strings.Contains(lost, "hits, proofs and programs not recorded") {
		t.Errorf("nothing says what was lost:\n%s", lost)
	}
	d.stop()
	h.unharmed(uid)
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// Where too little of the disk is free no new traces begin; hits are recorded.
func TestMinFree(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	dir := filepath.Join(h.smallDisk(8<<20), "evidence")
	d := h.huntWith(h.configureIn(dir, gated+fmt.Sprintf("evidence: {dir: %s, min_free: 16MiB}\n", dir)), dir)
	uid := newUID()
	s := h.sender(uid)
	s.ask("first.badzone.test")
	d.hit("first.badzone.test")
	d.capture(uid, "says why nothing is traced", func(c event.Capture) bool {
		return c.Culprit.Missed[event.UntracedNoFile] > 0 && strings.Contains(c.Culprit.Examples[0].Reason.Detail, "evidence.min_free (16.0 MiB)")
	})
	s.ask("second.badzone.test")
	d.hit("second.badzone.test")
	if ts := d.traces(); len(ts) != 0 {
		t.Errorf("%d traces were begun", len(ts))
	}
	d.stop()
	h.unharmed(uid)
}

// fill takes everything that is free of a disk of the host, to the last byte, with a file.
func (h *host) fill(path string) {
	h.t.Helper()
	h.Do(func() {
		f, err := os.Create(path)
		if err != nil {
			h.t.Error(err)
			return
		}
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
			h.t.Errorf("the disk is not full: %v", err)
		}
	})
}
