package containers

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/test/harness"
)

// ownNames gives a host names of network namespaces of its own.
func ownNames(t *testing.T, h *harness.Host) {
	t.Helper()
	h.Must(t, "mkdir", "-p", "/run/netns")
	var err error
	h.Do(func() { err = unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, "mode=755") })
	if err != nil {
		t.Fatal(err)
	}
}

// addNamespace makes a network namespace by `ip netns`.
func addNamespace(t *testing.T, h *harness.Host, name string) {
	t.Helper()
	h.Must(t, "ip", "netns", "add", name)
	t.Cleanup(func() { h.Run("ip", "netns", "delete", name) })
	h.Must(t, "ip", "-n", name, "link", "set", "lo", "up")
}

// in starts an offender in a named namespace.
func in(h *harness.Host, namespace string, uid uint32, args ...string) *harness.Process {
	// ip netns exec mounts, which only root can.
	return h.StartAs(0, "ip", append([]string{"netns", "exec", namespace, "setpriv", "--reuid", fmt.Sprint(uid), "--clear-groups", harness.Programs.OffenderC}, args...)...)
}

// Namespaces are chosen by names and patterns of names. A packet is a hit once, of the namespace that it is sent in.
func TestChosenNamespaces(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	ownNames(t, h)
	for _, name := range []string{"blue", "web-1", "red"} {
		addNamespace(t, h, name)
	}
	domain, config := zone("[blue, web-*]")
	d := h.Hunt(config)
	uid := harness.NewUID()
	asks := func(p *harness.Process) *harness.Process {
		t.Helper()
		if p.Wait() != 0 {
			t.Fatalf("%v: %s", p.Cmd.Args, p.Output)
		}
		return p
	}
	asks(in(h, "red", uid, "-n", "red."+domain))
	asks(h.StartAs(uid, harness.Programs.OffenderC, "-n", "host."+domain))
	addNamespace(t, h, "web-2")
	for _, name := range []string{"blue", "web-1", "web-2"} {
		uid := harness.NewUID()
		p := asks(in(h, name, uid, "-n", name+"."+domain))
		if hit := caught(t, d, name+"."+domain, p.PID, uid); hit.Culprit.Netns == nil || hit.Culprit.Netns.Name != name {
			t.Errorf("the hit in %s is of %v", name, hit.Culprit.Netns)
		}
	}
	if hit := d.Hit("host." + domain); hit.Culprit.Netns != nil {
		t.Errorf("the host's packet is of %v", hit.Culprit.Netns)
	}
	var asked []string
	for _, hit := range d.Hits() {
		asked = append(asked, strings.TrimSuffix(hit.DNS.Question.Name, "."+domain))
	}
	if got := strings.Join(asked, " "); got != "host blue web-1 web-2" {
		t.Errorf("hits of %s: want each once, and none of red", got)
	}
	d.Stop()
}

// Without the key nobody else's packets are looked at.
func TestHostOnly(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("host")
	d := h.Hunt(config)
	for _, where := range []*harness.Host{other, h} {
		if p := where.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", "x."+domain); p.Wait() != 0 {
			t.Fatal(p.Output)
		}
	}
	proven(t, d, "x."+domain)
	if all := d.Hits(); len(all) != 1 || all[0].Culprit.Netns != nil {
		t.Errorf("%d hits, want the host's only: %+v", len(all), all)
	}
	d.Stop()
}

// A user who is root of a user namespace is the one that the host knows.
func TestUserNamespace(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	domain, config := zone("all")
	d := h.Hunt(config)
	uid := harness.NewUID()
	p := h.StartAs(uid, "unshare", "--user", "--map-root-user", "--net", "sh", "-c",
		"ip link set lo up && exec "+harness.Programs.OffenderC+" -n x."+domain)
	if p.Wait() != 0 {
		t.Fatal(p.Output)
	}
	caught(t, d, "x."+domain, p.PID, uid)
	d.Stop()
}

// A packet that goes to port 53 and is sent elsewhere by the namespace's own rules is seen, as on the way to Docker's resolver.
func TestDNAT(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	for _, protocol := range []string{"udp", "tcp"} {
		other.Must(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-d", "127.0.0.11", "-p", protocol, "--dport", "53",
			"-j", "DNAT", "--to-destination", "127.0.0.1:53")
		other.Must(t, "iptables", "-t", "nat", "-I", "OUTPUT", "-d", "127.0.0.12", "-p", protocol, "--dport", "53",
			"-j", "DNAT", "--to-destination", "127.0.0.12:40053")
	}
	domain, config := zone("all")
	d := h.Hunt(config)
	const script = `
import socket, sys
way, name = sys.argv[1:]
labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if way == "bound": s.bind(("127.0.0.2", 53))
if way == "elsewhere": s.connect(("127.0.0.1", 9))
s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1", ("127.0.0.12", 53) if way != "other" else ("127.0.0.1", 40053))
`
	for _, args := range [][]string{
		{harness.Programs.OffenderC, "-s", "127.0.0.12", "-n"},
		{harness.Programs.OffenderC, "-s", "127.0.0.11", "-t", "-n"},
		{"python3", "-I", "-S", "-c", script, "unconnected"},
		{"python3", "-I", "-S", "-c", script, "bound"},     // as an answer is
		{"python3", "-I", "-S", "-c", script, "elsewhere"}, // and names another address in sendto
	} {
		uid, name := harness.NewUID(), fmt.Sprintf("dnat-%d.%s", len(d.Hits()), domain)
		if args[len(args)-1] == "bound" {
			other.Must(t, "sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
		}
		p := other.StartAs(uid, args[0], append(args[1:], name)...)
		if p.Wait() != 0 {
			t.Fatal(p.Output)
		}
		if hit := caught(t, d, name, p.PID, uid); !slices.Contains(args, "-t") && hit.Destination.Port != 40053 {
			t.Errorf("%s went to %s: the test shows nothing", name, hit.Destination)
		}
	}
	// Who sends to that port itself has asked nobody that the rule means.
	if p := other.StartAs(harness.NewUID(), "python3", "-I", "-S", "-c", script, "other", "other."+domain); p.Wait() != 0 {
		t.Fatal(p.Output)
	}
	last := "last." + domain
	other.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", last).Wait()
	d.Hit(last)
	d.Stop()
	for _, h := range d.Hits() {
		if h.DNS != nil && h.DNS.Question.Name == "other."+domain {
			t.Errorf("what went to another port is a hit: %s", h.Destination)
		}
	}
}

// What a connection had left to send goes out when its reader reads, in the reader's context: nobody is named, and the
// reader is not stopped.
func TestSentBySomebodyElse(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	text := fmt.Sprintf("zone%d", harness.NewUID())
	d := h.Hunt("rules: [{name: zone, string: " + text + "}]\nnamespaces: all\n" + harness.Gated)
	const reads = `
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.9", 53))
s.listen()
print("ready", flush=True)
c = s.accept()[0]
sys.stdin.readline()
n = 0
while b := c.recv(65536):
    n += len(b)
print("read", n, flush=True)
`
	const sends = `
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
s.connect(("127.0.0.9", 53))
s.sendall(b"-" * (256 << 10))
s.sendall(sys.argv[1].encode() * 4096)
print("sent", flush=True)
`
	reader := other.StartAs(0, "python3", "-I", "-S", "-c", reads)
	reader.Said("ready", 1)
	sender := other.StartAs(harness.NewUID(), "python3", "-I", "-S", "-c", sends, text)
	if sender.Wait() != 0 {
		t.Fatal(sender.Output)
	}
	reader.Say("read")
	reader.Said("read", 1)
	var hits []event.Hit
	harness.Eventually(t, "there is a hit", func() error {
		if hits = d.Hits(); len(hits) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	unnamed := 0
	for _, hit := range hits {
		switch {
		case hit.Process == nil && hit.Culprit.Origin.Reason != nil && hit.Culprit.Origin.Reason.Code == event.UnattributedContext:
			unnamed++
		case hit.Process == nil || hit.Process.PID != sender.PID:
			t.Errorf("process %v is named, %+v: it was %d", hit.Process, hit.Culprit.Origin, sender.PID)
		}
	}
	if unnamed == 0 {
		t.Error("each packet left in its sender's context: the test shows nothing")
	}
	d.Stop()
}

// Users who make network namespaces and drop them, as fast as they can, neither blind culprit nor slow it down so that it
// misses anybody.
func TestNamespaceChurn(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	d := h.Hunt(config)
	stranger := harness.NewUID()
	churn := h.StartAs(stranger, "sh", "-c", "while :; do unshare --user --map-root-user --net "+harness.Programs.OffenderC+" -n other.test; done")
	for i := range 10 {
		uid, name := harness.NewUID(), fmt.Sprintf("x%d.%s", i, domain)
		p := other.StartAs(uid, harness.Programs.OffenderC, "-n", name)
		if p.Wait() != 0 {
			t.Fatal(p.Output)
		}
		caught(t, d, name, p.PID, uid)
	}
	syscall.Kill(-churn.PID, syscall.SIGKILL)
	churn.Wait()
	for _, c := range d.Captures() {
		if c.User.ID == fmt.Sprint(stranger) {
			t.Errorf("the user of the loop was captured: %+v", c)
		}
	}
	d.Stop()
}

// Rules that are reloaded count in other namespaces, too.
func TestReloadElsewhere(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	before, config := zone("all")
	path, evidence := h.Configure(config)
	d := h.HuntWith(path, evidence)
	asks := func(name string) {
		t.Helper()
		if p := other.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", name); p.Wait() != 0 {
			t.Fatal(p.Output)
		}
	}
	asks("x." + before)
	d.Hit("x." + before)
	after, _ := zone("all")
	h.Must(t, "sed", "-i", fmt.Sprintf("s/%s/%s/", before, after), path)
	d.Signal(syscall.SIGHUP)
	d.AwaitLog("reloaded")
	asks("y." + before)
	asks("y." + after)
	d.Hit("y." + after)
	if all := d.Hits(); len(all) != 2 {
		t.Errorf("%d hits, want 2: the old rule still counts", len(all))
	}
	d.Stop()
}
