package faults

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// Who is stopped at a packet, and who is not, or goes on at once.

// Guarded users are never stopped. Guarded programs, senders of packets that are no hit after all,
// and those of hits beyond the rate go on at once, long before the deadline, untraced.
func TestFrozenForNothing(t *testing.T) {
	t.Parallel()
	h := newFreezer(t)
	spared, uid := harness.NewUID(), harness.NewUID()
	forbidden := filepath.Join(h.Dir, "forbidden")
	if out, err := exec.Command("install", "-m", "755", harness.Programs.OffenderC, forbidden).CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
	const deadline = 4 * time.Second
	d := h.Hunt(frozen(deadline) + fmt.Sprintf(`
rules: [{name: badzone, domain: badzone.test}]
guard: {never_users: ["%d"], never_executables: [%s]}
`, spared, forbidden))
	began := time.Now()
	sender := h.Sender(spared)
	check := harness.NeverTraced(t, sender.PID)
	sender.Say("ask spared.badzone.test 1")
	for until := time.Now().Add(100 * time.Millisecond); time.Now().Before(until); {
		if isStopped(sender.PID) == nil {
			t.Fatal("a guarded user's process is stopped")
		}
	}
	sender.Reply()
	if got := h.StartAs(uid, forbidden, "-n", "forbidden.badzone.test").Wait(); got != 0 {
		t.Errorf("the guarded program ended with %d", got)
	}
	// The bytes of the name, but in no question.
	h.Sender(harness.NewUID()).Raw("\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07badzone\x04test\x00")
	if took := time.Since(began); took > deadline {
		t.Errorf("it took %v", took)
	}
	check()
	for _, name := range []string{"spared.badzone.test", "forbidden.badzone.test"} {
		if hit := d.Hit(name); hit.Culprit.Sent == nil {
			t.Errorf("the kernel did not name the sender of %s", name)
		}
	}
	if hits, traces := d.Hits(), d.Traces(); len(hits) != 2 || len(traces) != 0 {
		t.Errorf("%d hits and %d traces, want 2 and none", len(hits), len(traces))
	}
	nothingLeft(t, h, d, spared, uid)
}

// Hits beyond nflog.rate are counted, and their senders go on.
func TestFrozenBeyondRate(t *testing.T) {
	t.Parallel()
	h := newFreezer(t)
	const deadline = 3 * time.Second
	d := freeze(h, frozen(deadline)+"nflog: {rate: 1}\n", "true")
	all, uids := newcomers(h, 20)
	began := sends(all)
	goOnTraced(t, began, deadline, all...)
	nothingLeft(t, h, d, uids...)
}

// goOnTraced is goOn for senders who may be traced.
func goOnTraced(t *testing.T, began time.Time, within time.Duration, all ...*harness.Sender) {
	t.Helper()
	for _, s := range all {
		s.Reply()
	}
	if took := time.Since(began); took > within+slack {
		t.Errorf("the senders stood still for %v, want %v at most", took, within)
	}
}

// threadsScript has a thread that sends, and others that do not stand still.
const threadsScript = `
import os, socket, sys, threading, time
def spin():
    while True: time.sleep(0.001)
for _ in range(3): threading.Thread(target=spin, daemon=True).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
def send():
    s.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7threads\7badzone\4test\0\0\1\0\1")
t = threading.Thread(target=send)
t.start()
t.join()
os._exit(7)
`

// Senders in unusual places: in a thread, as the first process of a PID namespace, in a user
// namespace. Each is stopped, traced from its packet, and ends as it would.
func TestFrozenPlaces(t *testing.T) {
	t.Parallel()
	h := newFreezer(t)
	d := freeze(h, frozen(4*time.Second), "true")
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"threads":   {[]string{"python3", "-I", "-S", "-c", threadsScript}, 7},
		"container": {[]string{villain(h), "unshare", "user", "unshare", "pid", "fork", "ids", "packet", "container.badzone.test", "send", "exit", "5"}, 5},
		"user":      {[]string{villain(h), "unshare", "user", "packet", "user.badzone.test", "send", "exit", "6"}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := h.StartAs(harness.NewUID(), c.args[0], c.args[1:]...)
			if got := p.Wait(); got != c.want {
				t.Errorf("it ended with %d, want %d: %s", got, c.want, p.Output)
			}
			if name == "container" && !strings.Contains(p.Output.String(), "PID 1") {
				t.Fatalf("it said %q, want that it is PID 1", p.Output)
			}
			hit := d.Hit(name + ".badzone.test")
			if hit.Culprit.Origin.Grade != event.GradeKernel || hit.Process == nil {
				t.Fatalf("the origin is %+v", hit.Culprit.Origin)
			}
			if tr := d.Trace(hit.Process.PID, "has ended", harness.Ended); !tr.Culprit.FromPacket || tr.Process.ExitCode == nil || *tr.Process.ExitCode != c.want {
				t.Errorf("the trace is %+v with the exit code %v", tr.Culprit, tr.Process.ExitCode)
			}
		})
	}
}

// Processes that have one PID after the other, each of another user, are each stopped at their
// first packet: the kernel does not take one for another.
func TestFrozenPIDReused(t *testing.T) {
	t.Parallel()
	const count = 10
	h := newFreezer(t)
	d := freeze(h, frozen(4*time.Second), "true")
	uids := newUIDs(count)
	var list []string
	for _, uid := range uids {
		list = append(list, fmt.Sprint(uid))
	}
	script := strings.Replace(reuseScript, "uid, count = map(int, sys.argv[1:3])", "uids, count = sys.argv[1].split(','), int(sys.argv[2])", 1)
	script = strings.Replace(script, "for i in range(count):\n", "for i in range(count):\n    uid = int(uids[i])\n", 1)
	p := h.StartAs(0, "python3", "-I", "-S", h.Write("reuse.py", script), strings.Join(list, ","), fmt.Sprint(count), harness.Programs.OffenderC, "-n", "LABEL.badzone.test")
	if got := p.Wait(); got != 0 {
		t.Fatalf("it ended with %d: %s", got, p.Output)
	}
	harness.Eventually(t, "each is traced from its packet", func() error {
		from := 0
		for _, tr := range d.Traces() {
			if tr.Culprit.FromPacket && harness.Ended(tr) {
				from++
			}
		}
		if from != count {
			return fmt.Errorf("%d are, want %d", from, count)
		}
		return nil
	})
	nothingLeft(t, h, d, uids...)
}
