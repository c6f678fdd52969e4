package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// mountOfCgroups returns where cgroup v2 is mounted.
func mountOfCgroups(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Fatal("cgroup v2 is mounted neither at /sys/fs/cgroup nor at /sys/fs/cgroup/unified")
	return ""
}

// A group is a cgroup of v2 such as Docker makes for a container. No file has the name of that: it is shown by the beginning of its id.
type group struct{ id, dir string }

// newGroup makes one.
func newGroup(t *testing.T) group {
	t.Helper()
	g := group{id: fmt.Sprintf("%064x", harness.NewUID())}
	g.id = strings.Replace(g.id, "000000000000", fmt.Sprintf("%012d", harness.NewUID()), 1)
	g.dir = filepath.Join(mountOfCgroups(t), "docker-"+g.id+".scope")
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		harness.Eventually(t, "nobody is in the cgroup", func() error { return os.Remove(g.dir) })
	})
	return g
}

// start starts a program of a user in it.
func (g group) start(h *harness.Host, uid uint32, args ...string) *harness.Process {
	enter := fmt.Sprintf(`echo $$ >%s/cgroup.procs && exec setpriv --reuid %d --clear-groups "$@"`, g.dir, uid)
	return h.StartAs(0, "sh", append([]string{"-c", enter, "sh"}, args...)...)
}
