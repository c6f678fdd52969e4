package evidence

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
)

func TestHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, lockName)
	holder := func(want int) {
		t.Helper()
		if pid, err := Holder(dir); pid != want || err != nil {
			t.Errorf("got %d, %v, want %d", pid, err, want)
		}
	}
	holder(0)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	holder(0)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	holder(os.Getpid())
}

// What a culprit left running that was killed is lost as soon as it is, not only when
// another one says so.
func TestLeftRunning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	c := aCapture(event.StateDraining)
	s.Capture(c)
	tr := aTrace(s, t, c.Event.ID, "H", event.StateRunning)
	s.Trace(tr)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	states := func() (capture, trace string) {
		r := reader(t, dir)
		return all(t, r.Captures(Filter{}))[0].Culprit.State, all(t, r.Traces(Filter{}))[0].Culprit.State
	}
	// As it is while it runs, and when it is killed.
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.WriteString("812\n"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if capture, trace := states(); capture != event.StateDraining || trace != event.StateRunning {
		t.Errorf("while it runs: %s, %s", capture, trace)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if capture, trace := states(); capture != event.StateLost || trace != event.StateLost {
		t.Errorf("when it was killed: %s, %s", capture, trace)
	}
}
