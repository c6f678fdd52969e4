package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// manyGroups makes cgroups and a socket in each, and removes all but one. Then it sends 50,000 packets per second by turns from all
// sockets, each asking for another name of a zone, until it is told to end.
const manyGroups = `
import os, resource, signal, socket, sys, time
top, zone, many, rate, on = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3]), 50000, True
def end(*_):
    global on
    on = False
signal.signal(signal.SIGTERM, end)
resource.setrlimit(resource.RLIMIT_NOFILE, (many + 100, many + 100))
def enter(d):
    with open(d + "/cgroup.procs", "w") as f: f.write("0")
os.mkdir(top + "/home")
sockets = []
for i in range(many):
    d = "%s/%d" % (top, i)
    os.mkdir(d)
    enter(d)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("127.0.0.1", 53))
    sockets.append(s)
    enter(top + "/home")
    os.rmdir(d)
tail = b"".join(bytes([len(l)]) + l for l in zone.split(b".")) + b"\0\0\x01\0\x01"
print("begins", flush=True)
began, n = time.monotonic(), 0
while on:
    for _ in range(500):
        n += 1
        try: sockets[n % many].send(b"\0\0\1\0\0\1\0\0\0\0\0\0\x08%08d" % n + tail)
        except ConnectionRefusedError: pass
    time.sleep(max(0, n / rate - (time.monotonic() - began)))
print("sent", n, "in", time.monotonic() - began, flush=True)
`

// A container that may write cgroups makes five thousand of them, has a socket in each, and floods from all by turns: no more than one
// container's share is its. The single lookup of another container is a hit, of the process that sent it.
func TestFloodOfCgroups(t *testing.T) {
	t.Parallel()
	const groups, lookups = 5000, 10
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	flooder := harness.NewUID()
	d := h.Hunt(config + fmt.Sprintf("guard: {never_users: [%d]}\nnflog: {rate: 100}\n", flooder))
	noisy := newGroup(t)
	own := group{noisy.id, filepath.Join(noisy.dir, "own")} // it may write this one
	for _, err := range []error{
		os.Mkdir(own.dir, 0o755), os.Chown(own.dir, int(flooder), -1), os.Chown(filepath.Join(own.dir, "cgroup.procs"), int(flooder), -1),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, dir := range []string{filepath.Join(own.dir, "home"), own.dir} {
			harness.Eventually(t, "nobody is in "+dir, func() error { return os.Remove(dir) })
		}
	})
	f := own.start(other, flooder, "python3", "-I", "-S", "-c", manyGroups, own.dir, domain, fmt.Sprint(groups))
	f.Said("begins", 1)
	harness.Eventually(t, "packets are lost", func() error { return lostOf(t, d, noisy) })
	for i := range lookups {
		uid, name := harness.NewUID(), fmt.Sprintf("quiet-%d.%s", i, domain)
		quiet := newGroup(t)
		p := quiet.start(other, uid, harness.Programs.OffenderC, "-n", name)
		if p.Wait() != 0 {
			t.Fatal(p.Output)
		}
		hit := d.Hit(name)
		if hit.Process == nil || hit.Process.PID != p.PID || hit.Culprit.Sent == nil || hit.Container == nil || hit.Container.ID != quiet.id {
			t.Errorf("the hit is of process %v in %v: want %d in %s", hit.Process, hit.Container, p.PID, quiet.id)
		}
	}
	f.Signal(syscall.SIGTERM)
	if f.Wait() != 0 {
		t.Fatal(f.Output)
	}
	t.Log(f.Output)
	d.Stop()
	lost := map[string]uint64{}
	for _, l := range d.Losses() {
		if code := l.Culprit.Code; code == event.LossRate || code == event.LossOthers {
			switch {
			case l.Container == nil:
				lost["nobody's"] += l.Culprit.Count
			case l.Container.ID != noisy.id:
				t.Errorf("lost is %+v of %+v", l.Culprit, l.Container)
			default:
				lost[string(code)] += l.Culprit.Count
			}
		}
	}
	t.Log("lost are ", lost)
}
