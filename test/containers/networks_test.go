package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// networked gives podman networks of its own: netavark makes a bridge for each, and aardvark-dns answers on it.
func networked(t *testing.T, h *harness.Host, users map[uint32]string) podman {
	t.Helper()
	private(t, h, "/etc/containers/networks", "/run/netns")
	t.Cleanup(func() {
		// It ends with the last container, unless podman was killed.
		text, _ := h.Run("cat", "/run/containers/networks/aardvark-dns/aardvark.pid")
		if pid, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && pid > 1 {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); filepath.Base(to) == "aardvark-dns" {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	p := newPodman(t, h, users)
	if got := p.do("info", "--format", "{{.Host.NetworkBackend}}"); got != "netavark" {
		t.Fatalf("podman makes networks by %q", got)
	}
	p.do("network", "create", "net1")
	return p
}

// askers is a script of a container that reads names from its standard input and has podman's resolver look each up. That begins anew
// for each container, and nobody answers meanwhile.
func askers(container string) string {
	return "until case $(nslookup " + container + `.dns.podman) in *Name:*) true ;; *) false ;; esac; do sleep 0.1; done
echo ready; while read -r n; do nslookup $n; done`
}

// onNetwork starts one.
func (p podman) onNetwork(name string, uid uint32) *harness.Process {
	p.t.Helper()
	c := p.run(askers(name), "--name", name, "--network", "net1", "--user", fmt.Sprint(uid))
	c.Said("ready", 1)
	return c
}

// A container in a network that its user has made asks podman's resolver, which asks for it: the program in the container is named and
// captured, whether anybody else asks the same way or not.
func TestPodmanNetwork(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	p := networked(t, h, map[uint32]string{uid: "www-data"})
	domain, config := zone("all")
	d := h.Hunt(config)
	mail, web := p.onNetwork("mail", uid), p.onNetwork("web-1", uid)
	mail.Say("innocent.test")
	mail.Said("192.0.2.1", 1)
	web.Say("x." + domain)
	web.Said("192.0.2.1", 1)
	outs, ins := asked(t, d, "x."+domain, "aardvark-dns", 1)
	from := outs[0].Culprit.ForwardedFrom
	if from == nil || from.ID != ins[0].Event.ID || from.How != event.ForwardedQuestion || from.Container == nil || from.Container.Name != "web-1" {
		t.Errorf("the packet of %v is forwarded from %+v, want %s of web-1", outs[0].Process, from, ins[0].Event.ID)
	}
	harness.Eventually(t, "the hit of web-1 is proven", func() error {
		if _, ins = asked(t, d, "x."+domain, "aardvark-dns", 1); ins[0].Culprit.Proof == nil {
			return errors.New("it is not")
		}
		return nil
	})
	table := h.Culprit("hits", "--evidence", d.Evidence).Must(t)
	says(t, "culprit hits", table, "web-1", "forwarded for "+fmt.Sprint(ins[0].Process.PID), "none: sent on for hit ")
	says(t, "culprit show", h.Culprit("show", outs[0].Event.ID, "--evidence", d.Evidence).Must(t), "for the program of hit "+ins[0].Event.ID, "container web-1")
	d.Stop()
	neverBlamed(t, d, "nslookup", "web-1", "aardvark-dns")
	for _, tr := range d.Traces() {
		if tr.Container == nil || tr.Container.Name != "web-1" {
			t.Errorf("%v is traced, in %+v", tr.Process, tr.Container)
		}
	}
}

// neverBlamed checks that of all hits those of forwarders start nothing, and all others name a program in a container.
func neverBlamed(t *testing.T, d *harness.Daemon, program, container string, forwarders ...string) {
	t.Helper()
	for _, hit := range d.Hits() {
		switch c := hit.Container; {
		case hit.Process == nil:
			t.Errorf("nobody is named for %v: %+v", hit.DNS, hit.Culprit.Origin)
		case slices.Contains(forwarders, filepath.Base(hit.Process.Executable)):
			if hit.Culprit.Capture != nil || hit.Culprit.Proof != nil || hit.Culprit.ForwardedFrom == nil {
				t.Errorf("the packet of %v is of capture %+v, forwarded from %+v", hit.Process, hit.Culprit.Capture, hit.Culprit.ForwardedFrom)
			}
		case hit.Process.Name != program || c == nil || c.Name != container:
			t.Errorf("a hit of %v in %+v", hit.Process, c)
		}
	}
	if t.Failed() {
		t.Log(d.Host.Culprit("hits", "--evidence", d.Evidence).Must(t))
	}
}

// Without the packets of other namespaces the resolver's packet is all there is: it is a resolver's, and nobody is captured.
func TestPodmanNetworkAlone(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	p := networked(t, h, map[uint32]string{uid: "www-data"})
	domain, config := zone("host")
	d := h.Hunt(config)
	web := p.run("nslookup x."+domain+"; exec sleep 1000", "--name", "web-1", "--network", "net1", "--user", fmt.Sprint(uid))
	web.Said("192.0.2.1", 1)
	d.Hit("x." + domain)
	d.Stop()
	for _, hit := range d.Hits() {
		if hit.Culprit.Capture != nil || hit.Culprit.NoCapture == nil || hit.Culprit.NoCapture.Code != event.NoCaptureResolver || hit.Container != nil {
			t.Errorf("a hit of %v in %+v: %+v", hit.Process, hit.Container, hit.Culprit)
		}
	}
	if traces := d.Traces(); len(traces) != 0 {
		t.Errorf("traces %+v", traces)
	}
}

// A user's own podman has such networks in a namespace of her own, out of which slirp4netns sends: three packets ask the same, and all of
// them are told as the container's.
func TestRootlessNetwork(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uplink(t, h)
	a, cgroup, args := newAliceWithCgroups(t, h)
	if p := a.podman("", "network", "create", "net1"); p.Wait() != 0 {
		t.Fatal(p.Output)
	}
	domain, config := zone("all")
	d := h.Hunt(config)
	all := append([]string{"run", "--interactive", "--name", "web-1", "--network", "net1"}, limits...)
	web := a.podman(cgroup, append(append(all, args...), image, "/bin/sh", "-c", askers("web-1"))...)
	web.Said("ready", 1)
	web.Say("x." + domain)
	for _, forwarder := range []string{"slirp4netns", "aardvark-dns"} {
		outs, ins := asked(t, d, "x."+domain, forwarder, 1)
		ins = slices.DeleteFunc(ins, func(h event.Hit) bool { return h.Container == nil })
		if from := outs[0].Culprit.ForwardedFrom; len(ins) != 1 || from == nil || from.ID != ins[0].Event.ID || from.Container == nil || from.Container.Name != "web-1" {
			t.Errorf("the packet of %v is forwarded from %+v, want one of %+v", outs[0].Process, from, ins)
		}
	}
	d.Stop()
	neverBlamed(t, d, "nslookup", "web-1", "aardvark-dns", "slirp4netns")
}
