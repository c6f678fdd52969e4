package containers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

// Containers of all runtimes, beside each other on one machine, look a name up in networks of their own, once. Each lookup is proven, and
// everything that shows it says which container it was.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	users := map[uint32]string{}
	newUser := func() uint32 {
		uid := harness.NewUID()
		users[uid] = "www-data"
		return uid
	}
	type box struct {
		runtime, name, image string
		uid                  uint32
		start                func(b box, script string)
	}
	var p podman
	root := filepath.Join(h.Dir, "image")
	boxes := []box{
		{"podman", "web", image, newUser(), func(b box, script string) {
			p.run(script, "--name", b.name, "--network", "none", "--user", fmt.Sprint(b.uid))
		}},
		{"docker", "web-2", image, newUser(), func(b box, script string) {
			dockerd(t, h, filepath.Join(h.Dir, "image.tar"), b.name, b.uid, script)
		}},
		{"containerd", fmt.Sprint("ctr-", newUser()), "", newUser(), func(b box, script string) {
			archive := filepath.Join(h.Dir, "archive.tar")
			p.do("save", "--quiet", "--output", archive, image)
			containerd(t, h, archive, b.name, b.uid, script)
		}},
		{"lxc", fmt.Sprint("lxc-", newUser()), "", newUser(), func(b box, script string) {
			lxc(t, h, root, b.name, b.uid, script, "lxc.mount.auto = proc:mixed sys:mixed")
		}},
		{"systemd-nspawn", fmt.Sprint("nspawn-", newUser()), root, newUser(), func(b box, script string) {
			nspawn(t, h, root, b.name, b.uid, script)
		}},
	}
	p = newPodman(t, h, users)
	domain, config := zone("all")
	socket := filepath.Join(h.Dir, "metrics.sock")
	d := h.Hunt(config + "metrics: {listen: \"unix:" + socket + "\"}\n")
	for _, b := range boxes {
		b.start(b, "/bin/nslookup "+b.runtime+"."+domain+" 127.0.0.1; exec /bin/sleep 1000")
	}
	for _, b := range boxes {
		proven(t, d, b.runtime+"."+domain)
	}
	metrics := h.Must(t, "curl", "-sS", "--unix-socket", socket, "http://culprit/metrics")
	for _, b := range boxes {
		if want := fmt.Sprintf("culprit_user_hits_total{container=%q,uid=\"%d\"} ", b.name, b.uid); !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	d.Stop()
	for _, b := range boxes {
		hit := d.Hit(b.runtime + "." + domain)
		c := hit.Container
		if c == nil || c.Name != b.name || c.Runtime != b.runtime || c.Claimed || c.Image != nil && c.Image.Name != b.image || c.Image == nil && b.image != "" {
			t.Errorf("%s: the container is %+v, image %+v", b.runtime, c, c.Image)
			continue
		}
		called := "www-data"
		if b.runtime == "containerd" || b.runtime == "systemd-nspawn" {
			called = "root"
		}
		if got, want := hit.User.String(), fmt.Sprintf("%d (%s in %s)", b.uid, called, b.name); got != want {
			t.Errorf("%s: the user is %q, want %q", b.runtime, got, want)
		}
		if hit.Process == nil || hit.Process.Executable != "/bin/busybox" || hit.Culprit.Netns == nil {
			t.Errorf("%s: process %v, namespace %v", b.runtime, hit.Process, hit.Culprit.Netns)
		}
		shown(t, d, hit)
	}
}
