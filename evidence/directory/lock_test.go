package directory

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
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
	open := func(pid int) error {
		_, err := hasOpen(pid, nil)
		return err
	}
	if err := open(1 << 30); err != nil {
		t.Errorf("a process that is gone: %v", err)
	}
}
