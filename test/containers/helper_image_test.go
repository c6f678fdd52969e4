package containers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// private gives a host directories of its own, for the runtimes that keep their files there.
func private(t testing.TB, h *harness.Host, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		h.Do(func() { err = unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755") })
		if err != nil {
			t.Fatalf("mount on %s: %v", dir, err)
		}
	}
}

// rootfs makes the files of a container that holds nothing but busybox and calls users by names, and an archive of them.
func rootfs(t testing.TB, h *harness.Host, users map[uint32]string) (dir, tar string) {
	t.Helper()
	dir = filepath.Join(h.Dir, "image")
	for _, name := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "var"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var busybox string
	for _, name := range []string{"busybox.static", "busybox-static", "busybox"} { // see scripts/deps.sh
		if busybox, _ = exec.LookPath(name); busybox != "" {
			break
		}
	}
	h.Must(t, "cp", "-L", busybox, filepath.Join(dir, "bin/busybox"))
	for _, name := range []string{"sh", "cat", "nslookup", "sleep"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	passwd := "root:x:0:0::/:/bin/sh\n"
	for uid, name := range users {
		passwd += fmt.Sprintf("%s:x:%d:%d::/:/bin/sh\n", name, uid, uid)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	tar = filepath.Join(h.Dir, "image.tar")
	h.Must(t, "tar", "-C", dir, "-cf", tar, ".")
	return dir, tar
}
