package containers

import (
	"fmt"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

const badzone = `
rules:
  - {name: badzone, string: badzone}
`

// A hit out of a container has its name, its image and who its user is there, in every output.
func TestNames(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	web, mail := harness.NewUID(), harness.NewUID()
	p := newPodman(t, h, map[uint32]string{web: "www-data", 33: "www-data"})
	d := h.Hunt(badzone)
	p.asks(p.start("--name", "web-1", "--user", fmt.Sprint(web)), "a.badzone.test")
	p.asks(p.start("--name", "mail", "--rm", "--user", "33",
		"--uidmap", fmt.Sprintf("0:%d:1", harness.NewUID()), "--uidmap", fmt.Sprintf("33:%d:1", mail), "--gidmap", "0:4200000:40"), "b.badzone.test")

	d.Stop()

	hit := d.Hit("a.badzone.test")
	check := func(hit event.Hit, name, user string) {
		t.Helper()
		if p := hit.Culprit.Proof; p == nil || p.Probable {
			t.Errorf("the hit of %s is not proven: %+v", name, p)
		}
		c := hit.Container
		if c == nil || c.Name != name || c.Image == nil || c.Image.Name != image || c.Runtime != "podman" || c.Claimed {
			t.Fatalf("container %+v", c)
		}
		if got := hit.User.String(); got != user {
			t.Errorf("user %q, want %q", got, user)
		}
		if hit.Process.Executable != "/bin/busybox" {
			t.Errorf("the executable, as the container sees it: %q", hit.Process.Executable)
		}
	}
	check(hit, "web-1", fmt.Sprintf("%d (www-data in web-1)", web))
	check(d.Hit("b.badzone.test"), "mail", fmt.Sprintf("%d (www-data in mail)", mail))

	if got := d.Traces("--container", "mail"); len(got) == 0 {
		t.Error("no trace of the container")
	} else if tr := got[0]; tr.Container.Name != "mail" || tr.User.Inside.Name != "www-data" {
		t.Errorf("trace %+v of %v", tr.Container, tr.User)
	}
	shown(t, d, hit)
}

// A container with a network of its own has no rule of ours and sends nothing through ours: its first lookup is a hit,
// with the name of the container, of the program that stood still.
func TestContainerNetwork(t *testing.T) {
	t.Parallel()
	p, d, domain, uid := elsewhere(t, "all")
	p.startIn("none", "--name", "web-1", "--user", fmt.Sprint(uid)).Say("x." + domain)
	hit := proven(t, d, "x."+domain)
	if hit.Culprit.Origin.Grade != event.GradeKernel && hit.Culprit.Origin.Grade != event.GradeProof || hit.Process == nil || hit.Process.Executable != "/bin/busybox" {
		t.Errorf("the origin is %+v, process %v", hit.Culprit.Origin, hit.Process)
	}
	if c := hit.Container; c == nil || c.Name != "web-1" || hit.Culprit.Netns == nil {
		t.Errorf("container %+v, network namespace %v", hit.Container, hit.Culprit.Netns)
	}
	if got, want := hit.User.String(), fmt.Sprintf("%d (www-data in web-1)", uid); got != want {
		t.Errorf("user %q, want %q", got, want)
	}
	if tr := d.Trace(hit.Process.PID, "is there", nil); !tr.Culprit.FromPacket {
		t.Errorf("the trace does not begin with the packet: %+v", tr.Culprit)
	}
	d.Stop()
}

// Containers are chosen by their names.
func TestChosenContainers(t *testing.T) {
	t.Parallel()
	p, d, domain, uid := elsewhere(t, "web-*")
	p.startIn("none", "--name", "mail", "--user", fmt.Sprint(uid)).Say("mail." + domain)
	p.startIn("none", "--name", "web-1", "--user", fmt.Sprint(uid)).Say("web." + domain)
	d.Hit("web." + domain)
	for _, hit := range d.Hits() {
		if hit.Container == nil || hit.Container.Name != "web-1" {
			t.Errorf("a hit of %+v", hit.Container)
		}
	}
	d.Stop()
}

// Containers with networks of their own live for one lookup, under the same UID. Each packet has the name of
// its own container.
func TestShortContainers(t *testing.T) {
	t.Parallel()
	p, d, domain, uid := elsewhere(t, "all")
	const n = 4
	var all []*harness.Process
	for i := range n {
		name := fmt.Sprintf("job-%d", i)
		all = append(all, p.run("exec /bin/nslookup "+name+"."+domain+" 127.0.0.1", "--name", name, "--rm", "--network", "none", "--user", fmt.Sprint(uid)))
	}
	for _, c := range all {
		c.Wait()
	}
	for i := range n {
		name := fmt.Sprintf("job-%d", i)
		hit := d.Hit(name + "." + domain)
		if c := hit.Container; c == nil || c.Name != name || c.Image.Name != image {
			t.Errorf("the hit of %s is of %+v", name, c)
		}
		// Its /etc/passwd is gone with it.
		if in := hit.User.Inside; in != (event.Inside{}) && (in.Container != name || in.Name != "" && in.Name != "www-data") {
			t.Errorf("the user of the hit of %s is %v", name, hit.User)
		}
	}
	d.Stop()
}
