package containers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/test/harness"
)

// forwarders are programs by which a user's namespaces go out, and where their containers find a resolver.
var forwarders = []struct {
	program string
	args    []string // before the PID of a process in the namespace
	after   []string
	server  string
}{
	{"slirp4netns", []string{"--configure"}, []string{"tap0"}, "10.0.2.3"},
	{"pasta", []string{"--foreground", "--config-net", "--quiet"}, nil, "192.0.2.1"},
}

// uplink gives a host an address and a way out, as pasta wants one, and devices that everybody may open.
func uplink(t *testing.T, h *harness.Host) {
	t.Helper()
	h.Must(t, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	h.Must(t, "ip", "link", "set", "up1", "up")
	h.Must(t, "ip", "address", "add", "192.0.2.10/24", "dev", "up0")
	h.Must(t, "ip", "link", "set", "up0", "up")
	h.Must(t, "ip", "route", "add", "default", "via", "192.0.2.1")
	tun := filepath.Join(h.Dir, "tun")
	const mode, major, minor = syscall.S_IFCHR | 0o666, 10, 200 // as udev makes it
	if err := unix.Mknod(tun, mode, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tun, 0o666); err != nil {
		t.Fatal(err)
	}
	var err error
	h.Do(func() { err = unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "") })
	if err != nil {
		t.Fatalf("bind over /dev/net/tun: %v", err)
	}
}

// behind is a program of a user in namespaces of its own, which looks up what it is told.
type behind struct {
	*harness.Process
	netns     uint32
	forwarder *harness.Process
}

// through starts one behind a forwarder.
func through(t *testing.T, h *harness.Host, uid uint32, forwarder int) behind {
	t.Helper()
	f := forwarders[forwarder]
	script := fmt.Sprintf("echo ready; while read -r n; do %s -s %s -n $n; done", harness.Programs.OffenderC, f.server)
	in := behind{Process: h.StartAs(uid, "unshare", "--user", "--map-root-user", "--net", "/bin/sh", "-c", script)}
	in.Said("ready", 1)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", in.PID), &st); err != nil {
		t.Fatal(err)
	}
	in.netns = uint32(st.Ino)
	args := append(append(f.args, fmt.Sprint(in.PID)), f.after...)
	in.forwarder = h.StartAs(uid, f.program, args...)
	harness.Eventually(t, f.program+" forwards", func() error {
		if in.forwarder.Ended() {
			t.Fatalf("%s ended: %s", f.program, in.forwarder.Output)
		}
		_, err := h.Run("nsenter", "--target", fmt.Sprint(in.PID), "--user", "--preserve-credentials", "--net", harness.Programs.OffenderC, "-w", "-s", f.server, "-n", "ready.test")
		return err
	})
	return in
}

// outAndIn waits for the two hits of a name: in the namespace of a container, and of our own.
func outAndIn(t *testing.T, d *harness.Daemon, name string, outer, inner func(event.Hit) bool) (out, in event.Hit) {
	t.Helper()
	harness.Eventually(t, "both hits of "+name+" are there", func() error {
		found := 0
		all := d.Hits()
		for _, h := range all {
			switch {
			case h.DNS == nil || h.DNS.Question.Name != name:
			case h.Culprit.Netns == nil && outer(h):
				out = h
				found |= 1
			case h.Culprit.Netns != nil && inner(h):
				in = h
				found |= 2
			}
		}
		if found != 3 {
			return fmt.Errorf("there are %d hits", len(all))
		}
		return nil
	})
	return out, in
}

func anyHit(event.Hit) bool { return true }

// eachForwarder has a user's container behind each of them ask for a name, while a daemon that sees these namespaces looks for that.
func eachForwarder(t *testing.T, namespaces string, f func(t *testing.T, d *harness.Daemon, inside behind, uid uint32, name string)) {
	for i, forwarder := range forwarders {
		t.Run(forwarder.program, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			uplink(t, h)
			uid := harness.NewUID()
			inside := through(t, h, uid, i)
			domain, config := zone(namespaces)
			d := h.Hunt(config)
			name := "x." + domain
			inside.Say(name)
			f(t, d, inside, uid, name)
			d.Stop()
		})
	}
}

// A user's container goes out through pasta or slirp4netns: the packet that these send is joined to the one that was sent
// inside, by the message, and nobody is captured for it.
func TestForwarders(t *testing.T) {
	t.Parallel()
	eachForwarder(t, "all", func(t *testing.T, d *harness.Daemon, inside behind, uid uint32, name string) {
		h := d.Host
		out, in := outAndIn(t, d, name, anyHit, anyHit)
		from := out.Culprit.ForwardedFrom
		if from == nil || from.ID != in.Event.ID || from.How != event.ForwardedMessage || from.Grade != event.GradeKernel || from.Process.PID != in.Process.PID {
			t.Fatalf("the packet of %v is forwarded from %+v, want %s", out.Process, from, in.Event.ID)
		}
		if out.Culprit.Capture != nil || out.Process.PID != inside.forwarder.PID {
			t.Errorf("the forwarder's hit is of %v: %+v", out.Process, out.Culprit)
		}
		if in.Culprit.Capture == nil || in.Culprit.ForwardedFrom != nil || in.Culprit.Netns.Inode != inside.netns || in.Culprit.Netns.Owner == nil || in.Culprit.Netns.Owner.ID != fmt.Sprint(uid) {
			t.Errorf("the hit inside: %+v, in %+v", in.Culprit, in.Culprit.Netns)
		}
		says(t, "culprit show of the forwarder's hit", h.Culprit("show", out.Event.ID, "--evidence", d.Evidence).Must(t), "for the program of hit "+in.Event.ID, "it is the same message, with its id")
		says(t, "culprit show of the hit inside", h.Culprit("show", in.Event.ID, "--evidence", d.Evidence).Must(t), "forwarded by", out.Event.ID)
		says(t, "culprit hits", h.Culprit("hits", "--evidence", d.Evidence).Must(t), "forwarded for "+fmt.Sprint(in.Process.PID), "none: sent on for hit "+in.Event.ID)
	})
}

// Without the packets of other namespaces, what a forwarder sends is all there is: it says for which namespace, of whom, it
// can have sent it, and no more.
func TestForwarderAlone(t *testing.T) {
	t.Parallel()
	eachForwarder(t, "host", func(t *testing.T, d *harness.Daemon, inside behind, uid uint32, name string) {
		h := d.Host
		hit := d.Hit(name)
		if s := hit.Culprit.Serves; len(s) != 1 || s[0].Netns.Inode != inside.netns || s[0].Netns.Owner == nil || s[0].Netns.Owner.ID != fmt.Sprint(uid) {
			t.Errorf("it serves %+v, want %d of %d", s, inside.netns, uid)
		}
		if hit.Process == nil || hit.Process.PID != inside.forwarder.PID || hit.Culprit.Capture == nil || hit.Culprit.ForwardedFrom != nil {
			t.Errorf("the hit is of %v: %+v", hit.Process, hit.Culprit)
		}
		says(t, "culprit show", h.Culprit("show", hit.Event.ID, "--evidence", d.Evidence).Must(t), fmt.Sprintf("network namespace %d of %d", inside.netns, uid), "may have sent this for a program there")
		says(t, "culprit hits", h.Culprit("hits", "--evidence", d.Evidence).Must(t), fmt.Sprintf("for netns %d?", inside.netns))
	})
}

// Two users ask the same at once, each behind a forwarder of the same kind: each packet is joined to what its own
// namespace sent. One of them floods the question.
func TestForwardersApart(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uplink(t, h)
	victim, attacker := harness.NewUID(), harness.NewUID()
	theirs, own := through(t, h, victim, 0), through(t, h, attacker, 0)
	domain, config := zone("all")
	d := h.Hunt(config)
	name := "x." + domain
	for range 20 {
		own.Say(name)
	}
	theirs.Say(name)
	for range 20 {
		own.Say(name)
	}
	of := func(uid uint32) func(event.Hit) bool {
		return func(h event.Hit) bool { return h.User != nil && h.User.ID == fmt.Sprint(uid) }
	}
	out, in := outAndIn(t, d, name, of(victim), of(victim))
	if from := out.Culprit.ForwardedFrom; from == nil || from.ID != in.Event.ID {
		t.Errorf("the victim's packet is forwarded from %+v, want %s", from, in.Event.ID)
	}
	outAndIn(t, d, name, of(attacker), of(attacker))
	for _, hit := range d.Hits() {
		if from := hit.Culprit.ForwardedFrom; from != nil && from.User.ID != hit.User.ID {
			t.Errorf("a packet of %s is said to be for %s", hit.User, describe(from))
		}
	}
	d.Stop()
}

func describe(f *event.Forwarded) string { return fmt.Sprintf("%+v of %v", *f, f.Process) }

// Whoever only calls himself a forwarder, or is one and sends something of his own, is the sender.
func TestNoForwarders(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uplink(t, h)
	domain, config := zone("all")
	d := h.Hunt(config)
	sender := func(name string, uid uint32) event.Hit {
		t.Helper()
		hit := d.Hit(name)
		if hit.Culprit.ForwardedFrom != nil || hit.Culprit.Capture == nil || hit.User == nil || hit.User.ID != fmt.Sprint(uid) {
			t.Errorf("%s: the hit is of %v: %+v", name, hit.User, hit.Culprit)
		}
		return hit
	}
	// A name is worth nothing.
	pasta := filepath.Join(h.Dir, "pasta")
	h.Must(t, "cp", harness.Programs.OffenderC, pasta)
	uid := harness.NewUID()
	p := h.StartAs(uid, pasta, "-n", "named."+domain)
	p.Wait()
	if hit := sender("named."+domain, uid); hit.Process == nil || hit.Process.PID != p.PID {
		t.Errorf("the sender is %v, want %d", hit.Process, p.PID)
	}
	// A user can make the true one load what he likes.
	uid = harness.NewUID()
	library := filepath.Join(h.Dir, "library.so")
	source := h.Write("library.c", `#include <netdb.h>
#include <stdlib.h>
__attribute__((constructor)) static void lookup(void) { struct addrinfo *a; getaddrinfo(getenv("NAME"), 0, 0, &a); }`)
	h.Must(t, "cc", "-shared", "-fPIC", "-o", library, source)
	cmd := exec.Command("slirp4netns", "--version")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_PRELOAD=" + library, "NAME=loaded." + domain}
	h.StartCommandAs(uid, cmd).Wait()
	if hit := sender("loaded."+domain, uid); hit.Process == nil || hit.Process.Executable != "/usr/bin/slirp4netns" {
		t.Errorf("the sender is %v", hit.Process)
	}
	// Root of a container may show any file at the path of a resolver: it is not the host's.
	root := harness.NewHost(t, "")
	var err error
	root.Do(func() { err = unix.Mount(harness.Programs.OffenderC, "/usr/bin/slirp4netns", "", unix.MS_BIND, "") })
	if err != nil {
		t.Fatal(err)
	}
	p = root.StartAs(0, "/usr/bin/slirp4netns", "-n", "mounted."+domain)
	p.Wait()
	if hit := sender("mounted."+domain, 0); hit.Process == nil || hit.Process.Executable != "/usr/bin/slirp4netns" {
		t.Errorf("the sender is %v", hit.Process)
	}
	d.Stop()
}

func says(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q:\n%s", what, w, text)
		}
	}
}
