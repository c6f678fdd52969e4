package containers

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// flood sends 50,000 packets per second that ask for names of a zone, each another one, until it is told to end. Then it says how many
// it sent.
const flood = `
import signal, socket, sys, time
zone, rate, on = sys.argv[1].encode(), 50000, True
def end(*_):
    global on
    on = False
signal.signal(signal.SIGTERM, end)
tail = b"".join(bytes([len(l)]) + l for l in zone.split(b".")) + b"\0\0\x01\0\x01"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
print("begins", flush=True)
began, n = time.monotonic(), 0
while on:
    for _ in range(500):
        n += 1
        try: s.send(b"\0\0\1\0\0\1\0\0\0\0\0\0\x08%08d" % n + tail)
        except ConnectionRefusedError: pass
    time.sleep(max(0, n / rate - (time.monotonic() - began)))
print("sent", n, "in", time.monotonic() - began, flush=True)
`

// A container floods: it loses packets, and says so. What another container sends meanwhile, in the same network namespace even, is a
// hit, of the process that sent it.
func TestFlood(t *testing.T) {
	t.Parallel()
	const lookups = 20
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	flooder := harness.NewUID() // nobody stops it, or makes it slow by tracing it
	d := h.Hunt(config + fmt.Sprintf("guard: {never_users: [%d]}\nnflog: {rate: 100}\n", flooder))
	noisy, quiet := newGroup(t), newGroup(t)
	f := noisy.start(other, flooder, "python3", "-I", "-S", "-c", flood, domain)
	f.Said("begins", 1)
	harness.Eventually(t, "packets are lost", func() error {
		return lostOf(t, d, noisy)
	})
	senders, uids := map[string]*harness.Process{}, map[string]uint32{}
	for i := range lookups {
		uid, name := harness.NewUID(), fmt.Sprintf("quiet-%d.%s", i, domain)
		senders[name], uids[name] = quiet.start(other, uid, harness.Programs.OffenderC, "-n", name), uid
	}
	for _, p := range senders {
		if p.Wait() != 0 {
			t.Fatal(p.Output)
		}
	}
	f.Signal(syscall.SIGTERM)
	if f.Wait() != 0 {
		t.Fatal(f.Output)
	}
	t.Log(f.Output)
	hits := map[string]event.Hit{}
	harness.Eventually(t, "all lookups of the quiet container are hits", func() error {
		for _, hit := range d.Hits("--container", quiet.id) {
			hits[hit.DNS.Question.Name] = hit
		}
		if len(hits) < lookups {
			return fmt.Errorf("%d of %d are", len(hits), lookups)
		}
		return nil
	})
	for name, p := range senders {
		hit, uid := hits[name], uids[name]
		if hit.Process == nil || hit.Process.PID != p.PID || hit.Culprit.Sent == nil || hit.User.ID != fmt.Sprint(uid) {
			t.Errorf("the hit is of process %v, user %v: want %d", hit.Process, hit.User, p.PID)
		}
	}
	d.Stop()
	for _, l := range d.Losses() {
		if code := l.Culprit.Code; (code == event.LossRate || code == event.LossOthers) && (l.Container == nil || l.Container.ID != noisy.id) {
			t.Errorf("lost is %+v of %+v", l.Culprit, l.Container)
		}
	}
}

// lostOf says that packets of a container were lost, or returns an error.
func lostOf(t *testing.T, d *harness.Daemon, g group) error {
	t.Helper()
	for _, l := range d.Losses() {
		if l.Container != nil && l.Container.ID == g.id && l.Culprit.Detail != "" {
			return nil
		}
	}
	return errors.New("none is told")
}
