package faults

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// The tests of this file load the whole machine, so they do not run in parallel.

// More packets than anybody can look at: each that the firewall matched is a hit, or
// counted as lost, and the hunt goes on.
func TestPacketFlood(t *testing.T) {
	const count, unread = 200_000, 50_000
	h := harness.NewHost(t, "")
	// Nothing answers, and nothing is said to the sender.
	h.Must(t, "iptables", "-A", "INPUT", "-d", "127.0.0.2", "-j", "DROP")
	// The flood is not slowed down by a strace. On any machine more packets are looked at than the rate allows.
	d := h.Hunt("nflog: {queue: 4096, rate: 100}\n" + harness.Gated + "guard: {never_executables: [" + villain(h) + "]}\n")
	flood := func(count int) (perSecond float64) {
		t.Helper()
		p := h.StartAs(harness.NewUID(), villain(h), "flood", fmt.Sprint(count))
		var sent int
		var seconds float64
		if got := p.Wait(); got != 0 {
			t.Fatalf("the flood ended with %d: %s", got, p.Output)
		}
		if _, err := fmt.Sscanf(p.Output.String(), "sent %d in %f s", &sent, &seconds); err != nil || sent != count {
			t.Fatalf("the flood said %q", p.Output)
		}
		return float64(sent) / seconds
	}
	perSecond := flood(count)
	// However fast the machine is, what nobody reads is too much for the kernel.
	d.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.PID, syscall.SIGCONT) })
	flood(unread)
	d.Signal(syscall.SIGCONT)

	// While its buffer is full the kernel drops what comes. How much it dropped last
	// shows only when one more packet gets through.
	uid := harness.NewUID()
	s := h.Sender(uid)
	asked := 0
	harness.Eventually(t, "a new hit gets through", func() error {
		asked++
		s.Ask(fmt.Sprintf("after%d.badzone.test", asked))
		if len(d.Captures("--user", fmt.Sprint(uid))) == 0 {
			return fmt.Errorf("%d did not", asked)
		}
		return nil
	})
	d.Trace(s.PID, "is there", nil)
	asked++
	s.Ask("last.badzone.test")
	d.Hit("last.badzone.test")
	matched := matched(h)
	lean(d)
	tracesOn(t, d, uid)
	d.Stop()
	d.Proven(t, "last.badzone.test")

	// What is not compared with the traces is a hit all the same, and the packets of an
	// overrun are counted by themselves.
	hits := 0
	for _, hit := range d.Hits() {
		hits += hit.Culprit.Count
	}
	lost := map[event.LossCode]int{}
	packets := 0
	for _, l := range harness.List[event.Loss](d, "losses") {
		lost[l.Culprit.Code] += int(l.Culprit.Count)
		switch l.Culprit.Code {
		case event.LossKernel, event.LossQueue, event.LossRate, event.LossUnrecorded:
			packets += int(l.Culprit.Count)
		}
	}
	t.Logf("%.0f packets a second; %d hits, lost %v", perSecond, hits, lost)
	if matched != count+unread+asked {
		t.Errorf("the firewall matched %d packets, want %d", matched, count+unread+asked)
	}
	if lost[event.LossKernel] == 0 || lost[event.LossOverruns] == 0 || lost[event.LossRate] == 0 {
		t.Errorf("lost were %v, want some for each reason", lost)
	}
	if hits+packets != matched {
		t.Errorf("%d hits and %d lost packets are %d, the firewall matched %d", hits, packets, hits+packets, matched)
	}
}

// matched is how many packets the rules of our chain matched for IPv4.
func matched(h *harness.Host) (n int) {
	h.T.Helper()
	for line := range strings.Lines(h.Must(h.T, "iptables", "-t", "raw", "-nvxL", "CULPRIT")) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == "NFLOG" {
			packets, err := strconv.Atoi(fields[0])
			if err != nil {
				h.T.Fatal(err)
			}
			n += packets
		}
	}
	return n
}

// Process events come faster than they are read: that is counted, and what started
// meanwhile is found all the same.
func TestForkStorm(t *testing.T) {
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Quick)
	uid := harness.NewUID()
	d.Captured(uid)
	// While the daemon stands still nobody reads. The kernel has room for 20,000
	// events, and each fork makes two.
	d.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.PID, syscall.SIGCONT) })
	if p := h.StartAs(harness.NewUID(), villain(h), "forks", "25000"); p.Wait() != 0 {
		t.Fatalf("the storm ended with %d: %s", p.Wait(), p.Output)
	}
	// Nobody was told of this one.
	late := h.Idle(uid)
	d.Signal(syscall.SIGCONT)
	d.AwaitLog("process events were lost, scanning /proc")
	harness.Traced(t, late)
	c := d.Capture(uid, "counts the overrun", func(c event.Capture) bool { return c.Culprit.Overruns > 0 })
	t.Logf("%d overruns", c.Culprit.Overruns)
	if shown := h.Culprit("show", "--evidence", d.Evidence, c.Event.ID).Must(t); !strings.Contains(shown, "process events were lost") {
		t.Errorf("culprit show does not say that events were lost:\n%s", shown)
	}
	tracesOn(t, d, uid)
	lean(d)
	d.Stop()
	h.Unharmed(uid)
}

// A user whose processes fork without end: the bounds hold, the machine lives on, and
// the capture ends when it is told to.
func TestForkBomb(t *testing.T) {
	const processes, concurrent, most = 20, 8, 40
	h := harness.NewHost(t, "")
	d := h.Hunt(fmt.Sprintf("capture: {levels: [{hits: 1, processes: %d, window: 10m}], concurrent: %d, trace_bytes: 1MiB}\n", processes, concurrent))
	uid := harness.NewUID()
	s := h.Sender(uid)
	s.Ask("x.badzone.test")
	d.Trace(s.PID, "is there", nil)
	d.InPlace(1)
	p := h.StartAs(0, villain(h), "limit", fmt.Sprint(most), "setuid", fmt.Sprint(uid), "exec", villain(h), "bomb")
	straces := 0
	harness.Eventually(t, "the bomb has made hundreds of processes", func() error {
		straces = max(straces, len(d.Straces()))
		if c := d.Captures("--user", fmt.Sprint(uid)); len(c) != 1 || c[0].Culprit.Programs+c[0].Culprit.Unseen < 500 {
			return fmt.Errorf("the capture is %+v", c)
		}
		return nil
	})
	// Others start programs as before.
	h.Stream(harness.NewUID(), 20, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test").Await()
	h.Unharmed()
	if err := syscall.Kill(-p.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.Wait()
	lean(d)
	d.Stop()
	h.Unharmed(uid)
	c := d.Capture(uid, "has ended", func(c event.Capture) bool { return c.Culprit.State == event.StateEnded })
	t.Logf("%d straces at once, %d in all, %d processes seen and %d not, missed %v", straces, c.Culprit.Traces, c.Culprit.Programs, c.Culprit.Unseen, c.Culprit.Missed)
	if straces > concurrent || c.Culprit.Traces > processes {
		t.Errorf("%d straces at once and %d in all, want %d and %d at the most", straces, c.Culprit.Traces, concurrent, processes)
	}
	// Where strace is on the first of them in time it follows all the others.
	if c.Culprit.Traces < 2 {
		t.Errorf("%d processes were traced, want the sender and some of the bomb: %+v", c.Culprit.Traces, c.Culprit)
	}
	for _, tr := range d.Traces() {
		if tr.File.Size > 1<<20+64<<10 {
			t.Errorf("the trace of %d has %d bytes, more than capture.trace_bytes", tr.Process.PID, tr.File.Size)
		}
	}
}
