package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

// nesting makes a container of LXC one that podman works in, with the programs of the machine.
const nesting = `lxc.cap.drop =
lxc.mount.auto = proc:rw sys:rw cgroup:rw:force
lxc.mount.entry = /usr usr none bind,ro 0 0
lxc.mount.entry = %s img none bind,ro 0 0
lxc.mount.entry = tmpfs dev/shm tmpfs create=dir 0 0
lxc.mount.entry = tmpfs run tmpfs mode=755 0 0
lxc.mount.entry = tmpfs var tmpfs mode=755 0 0
lxc.mount.entry = tmpfs tmp tmpfs mode=1777 0 0
`

// machineRoot makes the files of a container that has the programs of the machine.
func machineRoot(t *testing.T, h *harness.Host) string {
	t.Helper()
	dir := filepath.Join(h.Dir, "machine")
	for _, name := range []string{"usr", "etc", "proc", "sys", "dev", "run", "var", "tmp", "img"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	h.Must(t, "cp", "-r", "/etc/containers", "/etc/passwd", "/etc/group", "/etc/ld.so.cache", "/etc/alternatives", filepath.Join(dir, "etc"))
	return dir
}

// innerPodman is a script for a container that has the programs of the machine: it starts a container in it, which looks a name up.
func innerPodman(tar, domain string, uid uint32) string {
	podman := "podman " + strings.Join(podmanArgs, " ")
	return "mkdir -p /dev/shm /var/tmp /var/lib /run/lock; " +
		podman + " import --quiet /img/" + filepath.Base(tar) + " " + image + " && exec " +
		podman + " run --name inner --network none --user " + fmt.Sprint(uid) + " " + strings.Join(limits, " ") + " " + image +
		" /bin/sh -c '/bin/nslookup x." + domain + " 127.0.0.1; exec /bin/sleep 1000'"
}

// A container of podman's in one of LXC, and in one of podman's: it is named by the files within that one, which is named, too. By
// the name of either the hit is found.
func TestNested(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{"lxc", "podman"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			testNested(t, runtime)
		})
	}
}

func testNested(t *testing.T, runtime string) {
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	p := newPodman(t, h, map[uint32]string{uid: "www-data"})
	tar := filepath.Join(h.Dir, "image.tar")
	domain, config := zone("all")
	d := h.Hunt(config)
	outer, root, script := fmt.Sprint(runtime, "-", uid), machineRoot(t, h), innerPodman(tar, domain, uid)
	var c *harness.Process
	if runtime == "lxc" {
		c = lxc(t, h, root, outer, 0, script, fmt.Sprintf(nesting, h.Dir))
	} else {
		args := append(append(podmanArgs, "run", "--name", outer, "--privileged", "--network", "none"), limits...)
		c = h.StartAs(0, "podman", append(args, "--volume", "/usr:/usr:ro", "--volume", h.Dir+":/img:ro", "--tmpfs", "/run:rw,exec,dev,suid",
			"--tmpfs", "/var:rw,exec,dev,suid", "--tmpfs", "/tmp", "--rootfs", root, "/bin/sh", "-c", script)...)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the container said: %s", c.Output)
		}
	})
	hit := proven(t, d, "x."+domain)
	inner := hit.Container
	if inner == nil || inner.Name != "inner" || inner.Runtime != "podman" || inner.Claimed || inner.Image == nil || inner.Image.Name != image {
		t.Fatalf("the container is %+v", inner)
	}
	if o := inner.Parent; o == nil || o.Name != outer || o.Runtime != runtime || o.Parent != nil {
		t.Errorf("the container around it is %+v", o)
	}
	if runtime == "podman" && inner.Parent.ID != p.id(outer) {
		t.Errorf("the container around it is %+v", inner.Parent)
	}
	if got, want := hit.User.String(), fmt.Sprintf("%d (www-data in inner)", uid); got != want {
		t.Errorf("the user is %q, want %q", got, want)
	}
	if hits := d.Hits("--container", outer); len(hits) != 1 {
		t.Errorf("%d hits in the outer container", len(hits))
	}
	d.Stop()
	shown(t, d, d.Hit("x."+domain))
}

// A pod of podman's has its name, and its id.
func TestPodmansPod(t *testing.T) {
	t.Parallel()
	p, d, domain, uid := elsewhere(t, "all")
	// The container that keeps the pod's namespaces takes no limits on the command line.
	conf := p.Write("containers.conf", "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n")
	create := append([]string{"CONTAINERS_CONF=" + conf, "podman"}, podmanArgs...)
	pod := strings.TrimSpace(p.Must(t, "env", append(create, "pod", "create", "--name", "shop", "--network", "none", "--infra-image", image, "--infra-command", "/bin/sleep 1000")...))
	t.Cleanup(func() { p.Run("podman", append(podmanArgs, "pod", "rm", "--all", "--force", "--time", "0")...) })
	c := p.run("/bin/nslookup x."+domain+" 127.0.0.1; exec /bin/sleep 1000", "--pod", "shop", "--name", "cart", "--user", fmt.Sprint(uid))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the container said: %s", c.Output)
		}
	})
	hit := proven(t, d, "x."+domain)
	if c := hit.Container; c == nil || c.Name != "cart" || c.Parent != nil {
		t.Errorf("the container is %+v", c)
	}
	if o := hit.Orchestrator; o == nil || o.Type != "" || o.Resource.Type != "pod" || o.Resource.Name != "shop" || o.Resource.ID != pod {
		t.Errorf("the pod is %+v, want %s", o, pod)
	}
	d.Stop()
	shown(t, d, d.Hit("x."+domain))
}
