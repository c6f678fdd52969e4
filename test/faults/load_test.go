package faults

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// floodScript sends queries as fast as it can, each for a name of its own.
const floodScript = `
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[1])):
    name = b"\x0bf%010d\x07badzone\x04test\0" % i
    while True:
        try:
            s.sendto(os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + name + b"\0\x01\0\x01", ("127.0.0.1", 53))
            break
        except ConnectionRefusedError:
            pass
`

// flood lets a user send so many different queries, and waits until they are sent.
func flood(h *harness.Host, uid uint32, packets int) {
	h.T.Helper()
	if p := h.StartAs(uid, "python3", "-I", "-S", "-c", floodScript, fmt.Sprint(packets)); p.Wait() != 0 {
		h.T.Fatalf("the flood ended with %d: %s", p.Wait(), p.Output)
	}
}

// lost adds up the losses whose kind begins so.
func lost(d *harness.Daemon, what string) (n uint64) {
	d.T.Helper()
	for _, l := range harness.List[event.Loss](d, "losses") {
		if strings.HasPrefix(words.Loss(l.Culprit), what) {
			n += l.Culprit.Count
		}
	}
	return n
}

// A daemon that stands still under load, as in a virtual machine that is suspended or by
// somebody's SIGSTOP, holds nobody up. When it goes on so does the hunt, and what was lost
// meanwhile is counted.
func TestStandstill(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	outsider := harness.NewUID()
	d := h.Hunt(harness.Quick + fmt.Sprintf("guard: {never_users: [%d]}\n", outsider))
	uid, innocent := harness.NewUID(), harness.NewUID()
	d.Captured(uid)
	d.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.PID, syscall.SIGCONT) })
	captured := h.Stream(uid, 0, 2, harness.Programs.OffenderC, "-n", "LABEL.badzone.test")
	innocents := h.Stream(innocent, 0, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	flood(h, outsider, 40_000) // more than the socket's buffer holds
	captured.GoesOn(20)
	innocents.GoesOn(10)
	d.Signal(syscall.SIGCONT)
	harness.Eventually(t, "the packets that the kernel had to drop are counted", func() error {
		if lost(d, "packets dropped by the kernel") == 0 {
			return errors.New("they are not")
		}
		return nil
	})
	captured.Finish(harness.Held)
	innocents.Finish(harness.Held)
	d.NextWhole(t, uid)
	s := h.Sender(harness.NewUID())
	s.Ask("afterwards.badzone.test")
	harness.Traced(t, s.Process)
	d.Stop()
	h.Unharmed(uid, innocent, outsider)
}

// memoryBound is what a daemon may take in all of what TestMemory does to it. The unit
// leaves it MemoryMax=1G together with its straces.
const memoryBound = 200 << 20

// memory is the most that the daemon has taken until now, in bytes.
func memory(d *harness.Daemon) (bytes int) {
	d.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID))
	if err != nil {
		d.T.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		d.T.Fatal(err)
	}
	return kb << 10
}

// Whatever comes, and however much, the daemon's memory is bounded, and what does not fit
// is counted. CULPRIT_PROGRAMS says how many short-lived programs there are.
func TestMemory(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	outsider := harness.NewUID()
	const levels = "capture: {concurrent: 8, levels: [{hits: 1, processes: 1, window: 10m}, {hits: 1000000, processes: 2}]}\n"
	d := h.Hunt(levels + fmt.Sprintf("guard: {never_users: [%d]}\n", outsider))
	within := func(when string) {
		t.Helper()
		bytes := memory(d)
		t.Logf("%3d MiB %s", bytes>>20, when)
		if bytes > memoryBound {
			t.Errorf("%s the daemon took %d MiB, want %d at most", when, bytes>>20, memoryBound>>20)
		}
	}
	within("at the beginning")

	const packets = 30_000
	for range 2 {
		flood(h, outsider, packets)
	}
	o := h.Sender(outsider)
	harness.Eventually(t, "every packet is a hit, or counted as lost", func() error {
		o.Ask("more.badzone.test") // what was dropped before is known when the next one comes
		hits := strings.Count(h.Culprit("hits", "--json", "--evidence", d.Evidence).Must(t), "\n")
		lost := lost(d, "packets dropped") + lost(d, "hits dropped") + lost(d, "hits, proofs, programs and snapshots not recorded")
		if hits+int(lost) < 2*packets {
			return fmt.Errorf("%d hits and %d lost", hits, lost)
		}
		return nil
	})
	within("after a flood of different names")

	uid := harness.NewUID()
	s := h.Sender(uid)
	s.Ask("first.badzone.test")
	harness.Traced(t, s.Process) // and nobody else: strace would follow the shell below, and slow it down
	short := int(fromEnv(t, "CULPRIT_PROGRAMS", 2000))
	for range short / 100 { // each waits for the gates of all tests that run beside this one
		if p := h.StartAs(uid, "sh", "-c", "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done"); p.Wait() != 0 {
			t.Fatalf("the programs ended with %d: %s", p.Wait(), p.Output)
		}
	}
	d.Capture(uid, "has counted the programs", func(c event.Capture) bool {
		return c.Culprit.Programs+c.Culprit.Unseen > short*9/10
	})
	within(fmt.Sprintf("after %d programs", short))
	floodOfUsers(t, d)
	within("after hits of 600 users")

	if err := os.Rename(d.Evidence, d.Evidence+".aside"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		flood(h, outsider, packets)
	}
	d.AwaitLog(cannotWrite)
	within("after a flood that could not be recorded")
	if err := os.Rename(d.Evidence+".aside", d.Evidence); err != nil {
		t.Fatal(err)
	}
	d.AwaitLog(writesAgain)
	if lost(d, "hits, proofs, programs and snapshots not recorded") == 0 {
		t.Error("nothing says what was lost")
	}
	d.Stop()
}

const usersScript = `
import os, socket, sys
first = int(sys.argv[1])
for uid in range(first, first + 600):
    os.setresuid(uid, uid, 0)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    os.setresuid(0, 0, 0)
    s.sendto(b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x07badzone\x04test\0\0\x01\0\x01", ("127.0.0.1", 53))
`

// floodOfUsers sends hits of more users than there can be captures of.
func floodOfUsers(t *testing.T, d *harness.Daemon) {
	t.Helper()
	var first uint32
	for i := range 600 { // a run of its own
		if uid := harness.NewUID(); i == 0 {
			first = uid
		}
	}
	if p := d.Host.StartAs(0, "python3", "-I", "-S", "-c", usersScript, fmt.Sprint(first)); p.Wait() != 0 {
		t.Fatalf("it ended with %d: %s", p.Wait(), p.Output)
	}
	harness.Eventually(t, "the hits that have no capture say why", func() error {
		n := 0
		for _, h := range d.Hits("-n", "600") {
			if strings.HasPrefix(words.NoCapture(h.Culprit.NoCapture), "500 captures were running") {
				n++
			}
		}
		if n < 100 {
			return fmt.Errorf("%d do", n)
		}
		return nil
	})
}
