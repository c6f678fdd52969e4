package container

import (
	"fmt"
	"testing"

	"culprit/internal/testkit"
)

// parent makes a process the child of another.
func (n node) parent(pid, of int) {
	n.t.Helper()
	n.write(fmt.Sprintf("proc/%d/stat", pid), fmt.Sprintf("%d (x) S %d 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", pid, of, pid))
}

// TestNested: what is known of a container in a container is in the files of that one, found through the process that
// started it; none of the host is asked.
func TestNested(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	const (
		outer = "/docker/" + id1
		inner = outer + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0aa7.slice/cri-containerd-" + id2 + ".scope"
		file  = "run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id2 + "/config.json"
	)
	config := func(name string) string {
		return annotated(map[string]string{"io.kubernetes.cri.container-name": name, "io.kubernetes.cri.sandbox-name": "shop", "io.kubernetes.cri.sandbox-namespace": "web"})
	}
	for what, c := range map[string]struct {
		starter string // the cgroup of the parent's parent
		uid     int    // who owns the inner cgroup's directory
		want    string
		parent  string
	}{
		"by its files":                   {outer + "/system.slice/containerd.service", 0, "containerd cart  kubernetes pod web/shop 0aa7", "node-1"},
		"started from outside":           {"/system.slice/containerd.service", 0, "containerd   kubernetes pod / 0aa7", "node-1"},
		"made by the user of the outer":  {outer + "/system.slice/containerd.service", 100000, "docker node-1 kindest/node", ""},
		"with nobody who can be asked":   {inner, 0, "containerd   kubernetes pod / 0aa7", "node-1"},
		"started from another container": {"/docker/" + id3, 0, "containerd   kubernetes pod / 0aa7", "node-1"},
	} {
		n := newNode(t)
		n.cgroup("docker", 0)
		n.cgroup(inner[1:], 0)
		n.cgroup((outer + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0aa7.slice")[1:], c.uid)
		n.write("var/lib/docker/containers/"+id1+"/config.v2.json", `{"ID":"`+id1+`","Name":"/node-1","Config":{"Image":"kindest/node"}}`)
		n.write(file, config("forged"))
		n.process(7, inner)
		n.parent(7, 6)
		n.process(6, inner)
		n.parent(6, 5)
		n.process(5, c.starter)
		n.parent(5, 0)
		n.write("proc/5/root/"+file, config("cart"))
		n.findBy("0::"+inner+"\n", 0)  // as of a process that is gone: others are there
		n.findBy("0::"+inner+"\n", 99) // likewise, if its PID is known
		if got := describe(n, 7); got != c.want {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
		switch p := n.Of(7).Container.Parent; {
		case p == nil && c.parent != "", p != nil && (p.Name != c.parent || p.Runtime != Docker):
			t.Errorf("%s: the parent is %+v, want %q", what, p, c.parent)
		}
	}
}
