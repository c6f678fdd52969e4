package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// CgroupRoots returns where a test can make cgroups: in the hierarchy of v2, and in one of v1 if there is any.
func CgroupRoots(t testing.TB) (roots []string) {
	t.Helper()
	Root(t)
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			roots = append(roots, dir)
		}
	}
	if len(roots) == 0 {
		t.Skip("no hierarchy of cgroups is mounted")
	}
	return roots
}

// Cgroup makes a cgroup, with those around it. It is removed with the test, and the processes in it end.
func Cgroup(t testing.TB, dir string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Dir(dir)); err != nil {
		Cgroup(t, filepath.Dir(dir))
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); os.Remove(dir) != nil; time.Sleep(10 * time.Millisecond) {
			text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if errors.Is(err, os.ErrNotExist) {
				return
			}
			for word := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			if time.Now().After(deadline) {
				t.Errorf("cannot remove the cgroup %s", dir)
				return
			}
		}
	})
	return dir
}

// Enter moves a process into a cgroup.
func Enter(t testing.TB, dir string, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}
