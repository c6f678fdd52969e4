package sensor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/test/harness"
)

// prelude is the beginning of each script. Whoever is stopped gets a SIGCONT afterwards, and says so.
const prelude = `
import os, signal, socket, struct, sys, time
signal.signal(signal.SIGCONT, lambda *_: print("went on", flush=True))
def query(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"
`

func python(h *harness.Host, uid uint32, script string) *harness.Process {
	return h.StartAs(uid, "python3", "-I", "-S", "-c", prelude+script)
}

// innocent checks that a process was neither stopped nor named in any hit.
func innocent(t *testing.T, d *harness.Daemon, p *harness.Process) {
	t.Helper()
	if strings.Contains(p.Output.String(), "went on") {
		t.Errorf("an innocent process, %d, was stopped", p.PID)
	}
	for _, hit := range d.Hits() {
		for _, named := range hit.Senders() {
			if named.PID == p.PID {
				t.Errorf("an innocent process, %d, is named by %+v", p.PID, hit.Culprit.Origin)
			}
		}
	}
	if d.TracedPIDs()[p.PID] {
		t.Errorf("an innocent process, %d, is traced", p.PID)
	}
}

// ways are those of the sensor.
var ways = []string{"nflog", "rule", "mark"}

// eachWayAndBackend tests all that go together.
func eachWayAndBackend(t *testing.T, f func(t *testing.T, h *harness.Host, way string)) {
	for _, backend := range testkit.Backends {
		for _, way := range ways {
			if way == "rule" && backend == "legacy" {
				continue
			}
			t.Run(backend+"-"+way, func(t *testing.T) {
				t.Parallel()
				f(t, harness.NewHost(t, backend), way)
			})
		}
	}
}

// eachWay hunts in every way.
func eachWay(t *testing.T, config string, f func(t *testing.T, h *harness.Host, d *harness.Daemon)) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			f(t, h, h.Hunt("sensor: "+way+"\n"+config))
		})
	}
}

// What a socket could not send at once leaves when the peer makes room, in the peer's context.
func TestPeersContext(t *testing.T) {
	t.Parallel()
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		a, b := harness.NewUID(), harness.NewUID()
		reader := python(h, b, `
l = socket.socket()
l.bind(("127.0.0.2", 5300))
l.listen()
print("listens", flush=True)
s, _ = l.accept()
got = 0
while True:
    n = len(s.recv(3000))
    if n == 0:
        break
    got += n
    time.sleep(0.001)
print("read", got, flush=True)
signal.pause()`)
		reader.Said("listens", 1)
		h.Must(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", "127.0.0.2", "--dport", "53", "-j", "DNAT", "--to", "127.0.0.2:5300")
		writer := python(h, a, `
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
s.connect(("127.0.0.2", 53))
s.sendall(b"badzone." * (1 << 17))
s.close()
print("wrote", flush=True)
signal.pause()`)
		reader.Said("read 1048576", 1)
		for _, hit := range d.Hits() {
			if hit.Culprit.Sent != nil && hit.Process.PID != writer.PID {
				t.Errorf("the kernel names %v, want %d", hit.Process, writer.PID)
			}
		}
		innocent(t, d, reader)
	})
}

// Who writes to a TUN device takes in the acknowledgements of others' connections, and the kernel sends
// what these let go in his context: in a system call that sends, with no interrupt.
func TestTunnelsContext(t *testing.T) {
	t.Parallel()
	eachWayAndBackend(t, func(t *testing.T, h *harness.Host, way string) {
		testTunnelsContext(t, h, h.Hunt("sensor: "+way+"\n"+harness.Gated))
	})
}

func testTunnelsContext(t *testing.T, h *harness.Host, d *harness.Daemon) {
	h.Must(t, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno") // bbr sends by a timer
	tunnel := python(h, 0, fmt.Sprintf(`
import ctypes, fcntl, subprocess, threading
def tun(name, address):
    f = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(f, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1001)) # TUNSETIFF, IFF_TUN|IFF_NO_PI
    subprocess.check_call(["ip", "address", "add", address, "dev", name])
    subprocess.check_call(["ip", "link", "set", name, "up", "mtu", "1400"])
    return f
near = tun("near", "10.9.0.1/24")
assert ctypes.CDLL(None).unshare(0x40000000) == 0 # CLONE_NEWNET
far = tun("far", "10.9.0.2/24")
l = socket.socket()
l.bind(("10.9.0.2", 53))
l.listen()
if os.fork() == 0:
    s, _ = l.accept()
    while s.recv(65536):
        pass
    os._exit(0)
os.setgroups([])
os.setgid(%[1]d)
os.setuid(%[1]d)
def there():
    while True:
        os.write(far, os.read(near, 2000))
threading.Thread(target=there, daemon=True).start()
print("relays", flush=True)
while True:
    packet = os.read(far, 2000)
    time.sleep(0.002) # what is sent meanwhile has to wait
    os.write(near, packet)`, harness.NewUID()))
	tunnel.Said("relays", 1)
	python(h, harness.NewUID(), `
s = socket.socket()
s.connect(("10.9.0.2", 53))
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
s.sendall(b"x" * 60000 + b".badzone." + b"x" * 1000)
signal.pause()`)
	harness.Within(t, 20*time.Second, "the packet is a hit", func() error {
		if len(d.Hits()) == 0 {
			return errors.New("there is no hit")
		}
		return nil
	})
	innocent(t, d, tunnel)
}

// A raw socket sends with another's port, two sockets share a port, a successor takes it: each
// time the kernel names the one that sends, also if both are of one user.
func TestFramed(t *testing.T) {
	t.Parallel()
	const bound = `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", %d))
print("bound", flush=True)
`
	send := func(name string) string {
		return fmt.Sprintf("s.sendto(query('%s'), ('127.0.0.1', 53))\nsignal.pause()", name)
	}
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		one, other := harness.NewUID(), harness.NewUID()
		victim := func(uid uint32, port int) *harness.Process {
			p := python(h, uid, fmt.Sprintf(bound, port)+"signal.pause()")
			p.Said("bound", 1)
			return p
		}
		for i, c := range []struct {
			name         string
			idle, sender uint32
			port         int
			script       string
		}{
			{"raw", other, 0, 4001, `
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
q = query("raw.badzone.test")
s.sendto(struct.pack("!HHHH", 4001, 53, 8 + len(q), 0) + q, ("127.0.0.1", 0))
signal.pause()`},
			{"rawown", 0, 0, 4002, `
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
q = query("rawown.badzone.test")
s.sendto(struct.pack("!HHHH", 4002, 53, 8 + len(q), 0) + q, ("127.0.0.1", 0))
signal.pause()`},
			{"shared", other, one, 4003, fmt.Sprintf(bound, 4003) + send("shared.badzone.test")},
			{"sharedown", one, one, 4004, fmt.Sprintf(bound, 4004) + send("sharedown.badzone.test")},
		} {
			idle := victim(c.idle, c.port)
			guilty := python(h, c.sender, c.script)
			hit := d.Hit(c.name + ".badzone.test")
			if hit.Culprit.Sent == nil || hit.Process.PID != guilty.PID {
				t.Errorf("%d: %s: the origin is %+v, process %v, want %d by the kernel", i, c.name, hit.Culprit.Origin, hit.Process, guilty.PID)
			}
			if strings.Contains(idle.Output.String(), "went on") {
				t.Errorf("%s: the idle process was stopped", c.name)
			}
			for _, named := range hit.Senders() {
				if named.PID == idle.PID {
					t.Errorf("%s: the idle process is named", c.name)
				}
			}
		}
	})
}

// Ports are few and taken again at once, and two users send all the time.
func TestStorm(t *testing.T) {
	t.Parallel()
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		h.Must(t, "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003")
		a, b := harness.NewUID(), harness.NewUID()
		binder := python(h, b, `
while True:
    try:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", 0))
    except OSError:
        pass
    s.close()`)
		const senders = 200
		sender := python(h, a, fmt.Sprintf(`
signal.signal(signal.SIGCONT, signal.SIG_DFL)
for i in range(%d):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        continue
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True: # until a port is free
        try:
            s.sendto(query("p%%d-%%d.badzone.test" %% (os.getpid(), i)), ("127.0.0.1", 53))
            break
        except OSError:
            time.sleep(0.0001)
    os._exit(0)
print("sent", flush=True)
signal.pause()`, senders))
		harness.Within(t, 2*time.Minute, "all were sent", func() error {
			if !strings.Contains(sender.Output.String(), "sent") {
				return fmt.Errorf("not yet: %s", sender.Output)
			}
			return nil
		})
		harness.Eventually(t, "all are hits", func() error {
			if n := len(d.Hits("-n", "1000")); n != senders {
				return fmt.Errorf("%d of %d", n, senders)
			}
			return nil
		})
		late := 0
		for _, hit := range d.Hits("-n", "1000") {
			if hit.Culprit.Sent == nil { // the kernel said it too late: the binder takes a CPU
				late++
			}
			for _, named := range hit.Senders() {
				if !strings.HasPrefix(hit.DNS.Question.Name, fmt.Sprintf("p%d-", named.PID)) {
					t.Errorf("the hit of %s is of %d, %+v", hit.DNS.Question.Name, named.PID, hit.Culprit.Origin)
				}
			}
		}
		if late > senders/10 {
			t.Errorf("%d of %d senders are not named by the kernel", late, senders)
		}
		innocent(t, d, binder)
	})
}

// A socket that one user opened and another uses: the hit shows both, and the sender is traced.
func TestOpenedByAnother(t *testing.T) {
	t.Parallel()
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		uid := harness.NewUID()
		root := python(h, 0, fmt.Sprintf(`
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def worker(name):
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(%d)
        os.setuid(%d)
        s.sendto(query(name), ("127.0.0.1", 53))
        print(name, os.getpid(), flush=True)
        time.sleep(1)
        os._exit(0)
    return pid
worker("worker.badzone.test")
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0: # it gets the socket as a message
    os.setgroups([])
    os.setgid(%d)
    os.setuid(%d)
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    s = socket.socket(fileno=fds[0])
    s.sendto(query("passed.badzone.test"), ("127.0.0.1", 53))
    print("passed.badzone.test", os.getpid(), flush=True)
    time.sleep(1)
    os._exit(0)
socket.send_fds(ours, [b"x"], [s.fileno()])
signal.pause()`, uid, uid, uid, uid))
		for _, name := range []string{"worker.badzone.test", "passed.badzone.test"} {
			hit := d.Hit(name)
			if hit.User == nil || hit.User.ID != "0" || hit.Culprit.Sent == nil || hit.Culprit.Sent.User.ID != fmt.Sprint(uid) {
				t.Fatalf("%s: the hit is of the user %v, sent %+v; want root's socket, sent by %d", name, hit.User, hit.Culprit.Sent, uid)
			}
			root.Said(fmt.Sprintf("%s %d", name, hit.Process.PID), 1)
			tr := d.Trace(hit.Process.PID, "is there", func(event.Trace) bool { return true })
			if !tr.Culprit.FromPacket {
				t.Errorf("%s: the trace does not begin with the packet: %+v", name, tr.Culprit)
			}
			shown := h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t)
			for _, want := range []string{"root (0)", fmt.Sprint(uid)} {
				if !strings.Contains(shown, want) {
					t.Errorf("%s: show does not say %q:\n%s", name, want, shown)
				}
			}
		}
	})
}

// Two users send the same over one socket at once: each is named, and neither for the other's packet.
func TestSharedSocket(t *testing.T) {
	t.Parallel()
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		a, b := harness.NewUID(), harness.NewUID()
		root := python(h, 0, fmt.Sprintf(`
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
q = query("same.badzone.test")
for uid in (%d, %d):
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setuid(uid)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
        for _ in range(2):
            s.sendto(q, ("127.0.0.1", 53))
        os._exit(0)
    os.waitpid(pid, 0)
print("sent", flush=True)
signal.pause()`, a, b))
		root.Said("sent", 1)
		senders := func() (uids []string) {
			for _, hit := range d.Hits() {
				if hit.Culprit.Sent != nil {
					uids = append(uids, hit.Culprit.Sent.User.ID)
				}
			}
			slices.Sort(uids)
			return uids
		}
		want := []string{fmt.Sprint(a), fmt.Sprint(b)}
		slices.Sort(want)
		harness.Eventually(t, "both are named", func() error {
			if got := senders(); !slices.Equal(got, want) {
				return fmt.Errorf("the senders are %v, want %v", got, want)
			}
			return nil
		})
	})
}
