package container

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// node is the files of a machine: /proc, hierarchies of cgroups and what runtimes leave.
type node struct {
	t *testing.T
	*Containers
	dir string
}

func newNode(t *testing.T) node {
	n := node{t: t, dir: t.TempDir()}
	n.Containers = New(proc.FS(n.path("proc")))
	n.roots = []string{n.dir}
	n.cgroups = mounts{"": n.path("cgroup")}
	return n
}

func (n node) path(name string) string { return filepath.Join(n.dir, name) }

func (n node) write(name, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// process makes a process in a cgroup of v2.
func (n node) process(pid int, cgroup string) {
	n.t.Helper()
	n.write(filepath.Join("proc", strconv.Itoa(pid), "cgroup"), "0::"+cgroup+"\n")
}

// cgroup makes a cgroup and those around it. The last belongs to the user.
func (n node) cgroup(path string, uid int) {
	n.t.Helper()
	dir := filepath.Join(n.path("cgroup"), path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		n.t.Fatal(err)
	}
}

// TestWhoMadeTheCgroup: what anybody but root can have made is only claimed.
func TestWhoMadeTheCgroup(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	n := newNode(t)
	n.cgroup("docker", 0)
	n.cgroup("docker/"+id1, 100000) // of its own root
	n.process(1, "/docker/"+id1)
	n.cgroup("user", 1000)
	n.cgroup("user/docker-"+id2+".scope", 1000)
	n.process(2, "/user/docker-"+id2+".scope")
	n.cgroup("user/docker-"+id1+".scope", 0) // in v1, the user can have given it this name
	n.process(3, "/user/docker-"+id1+".scope")
	n.write("var/lib/docker/containers/"+id1+"/config.v2.json", `{"ID":"`+id1+`","Name":"/web-1"}`)
	n.cgroup("docker/"+id1+"/docker", 1000)
	n.cgroup("docker/"+id1+"/docker/"+id2, 1000) // of the container's own root, in a user namespace
	n.process(4, "/docker/"+id1+"/docker/"+id2)
	n.process(5, "/../../docker-"+id1+".scope")
	n.process(6, "/")
	n.process(8, "/../../docker-"+id2+".scope")
	for pid, want := range map[int]Identity{
		1: {id1, true}, 2: {id2, false}, 3: {id1, false}, 4: {id1, true}, 5: {id1, true}, 6: {}, 7: {}, 8: {id2, false},
	} {
		if got := n.Identity(pid); got != want {
			t.Errorf("process %d: got %v, want %v", pid, got, want)
		}
		if p := n.Of(pid); want.ID == "" && p.Container != nil || want.ID != "" && (p.Container.ID != want.ID || p.Container.Claimed == want.Known) {
			t.Errorf("process %d: %+v", pid, p.Container)
		}
	}
}
