package containers

import (
	"strings"
	"testing"

	"culprit/test/harness"
)

// podman runs containers on the host of a test, from an image that holds nothing but busybox.
type podman struct {
	*harness.Host
	t testing.TB
}

// image is the name that the containers' image gets.
const image = "localhost/busy:1"

// podmanArgs make podman work wherever the tests run, by runc and without systemd.
var podmanArgs = []string{"--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"}

// limits are those that a container may have here.
var limits = []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--log-driver", "none"}

// newPodman gives podman a storage of the host's own, and an image in which users have names.
func newPodman(t testing.TB, h *harness.Host, users map[uint32]string) podman {
	t.Helper()
	p := podman{h, t}
	private(t, h, "/var/lib/containers", "/run/containers", "/run/libpod", "/run/lock")
	_, tar := rootfs(t, h, users)
	p.do("import", "--quiet", tar, image)
	t.Cleanup(func() {
		h.Run("podman", append(podmanArgs, "rm", "--all", "--force", "--time", "0")...)
	})
	return p
}

// do runs a command of podman, and returns what it says.
func (p podman) do(args ...string) string {
	p.t.Helper()
	return strings.TrimSpace(p.Must(p.t, "podman", append(podmanArgs, args...)...))
}

// start starts a container in the host's network that reads names from its standard input and looks each up.
func (p podman) start(args ...string) *harness.Process {
	p.t.Helper()
	return p.startIn("host", args...)
}

// startIn starts one in a network of podman's: with none it has a namespace of its own.
func (p podman) startIn(network string, args ...string) *harness.Process {
	p.t.Helper()
	c := p.run("echo ready; while read -r n; do /bin/nslookup $n 127.0.0.1; done", append([]string{"--network", network}, args...)...)
	c.Said("ready", 1)
	return c
}

// run starts a container that runs a script.
func (p podman) run(script string, args ...string) *harness.Process {
	p.t.Helper()
	all := append(append(podmanArgs, "run", "--interactive"), append(limits, args...)...)
	return p.StartAs(0, "podman", append(all, image, "/bin/sh", "-c", script)...)
}

// asks has a container look a name up.
func (p podman) asks(c *harness.Process, name string) {
	p.t.Helper()
	c.Say(name)
	c.Said(name, 1)
}

// id returns the id of a container.
func (p podman) id(name string) string {
	p.t.Helper()
	return p.do("inspect", "--format", "{{.Id}}", name)
}

// elsewhere makes a host whose containers call a user www-data, and hunts for a domain in networks of containers.
func elsewhere(t *testing.T, namespaces string) (p podman, d *harness.Daemon, domain string, uid uint32) {
	t.Helper()
	h := harness.NewHost(t, "")
	uid = harness.NewUID()
	p = newPodman(t, h, map[uint32]string{uid: "www-data"})
	domain, config := zone(namespaces)
	return p, h.Hunt(config), domain, uid
}
