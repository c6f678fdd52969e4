package gate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// mountTmpfs mounts a tmpfs in a namespace, with a program on it.
func mountTmpfs(t *testing.T, n *testkit.Net) (program string) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n.Do(func() { err = unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Do(func() { unix.Unmount(dir, unix.MNT_DETACH) }) })
	program = filepath.Join(dir, "a b")
	n.Must(t, "cp", resolve(t, "/bin/true"), program)
	return program
}

// becomesHeld runs a program again and again until it is held.
func (r *runner) becomesHeld(d *driver, program string) {
	r.t.Helper()
	eventually(r.t, program+" is held", func() error {
		r.run(`"` + program + `"`)
		for {
			select {
			case h := <-d.held:
				d.send(encodeGo(h.Number))
				if filepath.Base(h.Path) == filepath.Base(program) {
					r.end()
					return nil
				}
			case got := <-r.result:
				if got.said != "ended 0" {
					r.t.Fatalf("the program %s: %q", program, got.said)
				}
				return errors.New("it is not")
			}
		}
	})
}

// A file system that is mounted while the gate watches is marked too, and can be unmounted.
func TestMountedLater(t *testing.T) {
	n := testkit.NewNet(t)
	r := newRunner(t, n.Start, newUID())
	d := startGate(t, n.Start, forever)
	d.watch(r.uid)
	program := mountTmpfs(t, n)
	r.becomesHeld(d, program)
	eventually(t, "the file system is unmounted", func() (err error) {
		n.Do(func() { err = unix.Unmount(filepath.Dir(program), 0) })
		return err
	})
}

// So is one that exists only in another mount namespace, as those of containers do.
func TestOtherNamespace(t *testing.T) {
	d := startGate(t, nil, forever)
	n := testkit.NewNet(t)
	program := mountTmpfs(t, n)
	r := newRunner(t, n.Start, newUID())
	d.watch(r.uid)
	r.becomesHeld(d, program)
}

// The gate finds a namespace that is made while it watches.
func TestNamespaceLater(t *testing.T) {
	d := startGate(t, nil, forever)
	d.watch(newUID())
	n := testkit.NewNet(t)
	program := mountTmpfs(t, n)
	r := newRunner(t, n.Start, newUID())
	d.send(encodeWatch([]uint32{r.uid}))
	r.becomesHeld(d, program)
}

// It also finds a mount in another namespace that it has seen before.
func TestMountedLaterInOtherNamespace(t *testing.T) {
	d := startGate(t, nil, forever)
	n := testkit.NewNet(t)
	first := mountTmpfs(t, n)
	r := newRunner(t, n.Start, newUID())
	d.watch(r.uid)
	r.becomesHeld(d, first)
	r.becomesHeld(d, mountTmpfs(t, n))
}
