package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// second is a configuration of a second culprit, which differs in all that it has to.
const second = "firewall: {chain: SECOND}\nnflog: {group: 4242}\nrules: [{name: other, string: OTHERZONE}]\nlog: {format: json, level: debug}\n"

// gaps counts how often a daemon found its rules gone.
func gaps(d *harness.Daemon) int {
	return strings.Count(d.Output.String(), "our rules are in place again")
}

// Two daemons with a chain, a group and a directory of their own each work beside each
// other: each keeps its rules without moving those of the other, and one that stops leaves
// the other's alone.
func TestTwoDaemons(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		one := h.Hunt(harness.LongWindow)
		two := h.Hunt(harness.LongWindow + second)
		both := []*harness.Daemon{one, two}
		healthy := func(when string) {
			t.Helper()
			for _, d := range both {
				if r := h.Culprit("rules", "status", "-c", d.Config); r.Code != 0 {
					t.Errorf("%s: %s%s", when, r.Out, r.Errors)
				}
			}
		}
		healthy("at the beginning")
		s1, s2 := h.Sender(harness.NewUID()), h.Sender(harness.NewUID())
		s1.Ask("one.badzone.test")
		s2.Ask("two.otherzone.test")
		one.Hit("one.badzone.test")
		two.Hit("two.otherzone.test")
		harness.Traced(t, s1.Process, s2.Process)

		// Somebody flushes: both come back, once each, and then nobody moves any more.
		for round, family := range []string{"iptables", "ip6tables"} {
			h.Must(t, family, "-t", "raw", "-F", "OUTPUT")
			harness.Eventually(t, "both have put their rules back", func() error {
				if gaps(one) <= round || gaps(two) <= round {
					return fmt.Errorf("%d and %d times", gaps(one), gaps(two))
				}
				return nil
			})
			healthy("after a flush of " + family)
		}
		settled, put := h.Firewall(), gaps(one)+gaps(two)
		quiet := time.Now().Add(10 * time.Second) // each looks twice at least
		for time.Now().Before(quiet) && !t.Failed() {
			if again := gaps(one) + gaps(two); again != put {
				t.Errorf("they went on putting their rules back: %d times, then %d", put, again)
			}
			time.Sleep(100 * time.Millisecond)
		}
		h.Unchanged(settled, "while both look")

		one.Stop()
		harness.Free(t, s1.Process)
		harness.Traced(t, s2.Process)
		both = both[1:]
		healthy("when the first has stopped")
		s2.Ask("three.otherzone.test")
		two.Hit("three.otherzone.test")
		if len(one.Hits()) != 1 || len(two.Hits()) != 2 {
			t.Errorf("%d and %d hits, want 1 and 2", len(one.Hits()), len(two.Hits()))
		}
		two.Stop()
		h.Must(t, "iptables", "-t", "raw", "-F")
		if after := h.Firewall(); strings.Contains(after, "CULPRIT") || strings.Contains(after, "SECOND") {
			t.Errorf("after both the firewall was\n%s, before\n%s", after, before)
		}
	})
}

// Two gates at once: programs of a user that only one of them captures are traced by that
// one; of a user that both capture, each by one of them, from its first instruction, and the
// other says who has it. Nobody is held up.
func TestTwoGates(t *testing.T) {
	for name, how := range map[string]string{"execve": "fanotify", "stop": "stop", "bpf": "bpf"} {
		// One after the other: each gate is asked about the programs of the whole machine,
		// those of the other case, too.
		t.Run(name, func(t *testing.T) {
			h := harness.NewHost(t, "")
			gate := "fanotify"
			if how == "bpf" {
				gate = "auto"
			}
			one := h.Hunt(harness.Gated + "  gate: " + gate + "\n")
			two := h.Hunt(harness.Gated + "  gate: " + how + "\n" + second)
			mine, others, shared := harness.NewUID(), harness.NewUID(), harness.NewUID()
			innocent := h.Stream(harness.NewUID(), 0, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
			ask := func(uid uint32, name string) *harness.Sender {
				s := h.Sender(uid)
				s.Ask(name)
				return s
			}
			ask(mine, "one.badzone.test")
			ask(others, "two.otherzone.test")
			both := ask(shared, "three.badzone.otherzone.test")
			one.Hit("three.badzone.otherzone.test")
			two.Hit("three.badzone.otherzone.test")
			harness.Traced(t, both.Process)
			one.InPlace(1)
			two.InPlace(1)

			const count = 20
			streams := map[uint32]*harness.Stream{}
			for _, uid := range []uint32{mine, others, shared} {
				streams[uid] = h.Stream(uid, count, 3, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test", "-a", "20")
			}
			for uid, s := range streams {
				runs := s.Await()
				for _, r := range runs {
					tr := traceOf(t, r.PID, one, two)
					// With two gates on it a program may go by its parent's name.
					harness.Complete(t, tr, r.Label)
					if by := one.TracedPIDs()[r.PID]; uid == mine && !by || uid == others && by {
						t.Errorf("a program of user %d was traced by the wrong one", uid)
					}
				}
			}
			for _, d := range []*harness.Daemon{one, two} {
				c := d.Capture(shared, "says who traced what it did not", func(c event.Capture) bool {
					for _, m := range c.Culprit.Examples {
						if m.Reason.Code == event.UntracedForeign && strings.Contains(m.Reason.Detail, "(strace)") {
							return true
						}
					}
					return d.TracedPIDs()[both.PID] && len(d.Traces("--user", fmt.Sprint(shared))) == count+1
				})
				t.Logf("%d traces, missed %v, gate failures %d", c.Culprit.Traces, c.Culprit.Missed, c.Culprit.GateFailures)
				if c.Culprit.GateFailures > 0 {
					t.Errorf("the gate of %d failed", d.PID)
				}
			}
			innocent.Finish(harness.Held)

			// The one that stays takes what starts from now on.
			one.Stop()
			h.Unharmed(mine)
			runs := h.Stream(shared, 5, 1, harness.Programs.OffenderC, "-n", "LABEL.nextzone.test", "-a", "20").Await()
			for _, r := range runs {
				harness.Whole(t, two.Trace(r.PID, "has ended", harness.Ended), r.Label)
			}
			two.Stop()
			h.Unharmed(mine, others, shared)
		})
	}
}

// traceOf waits for the one trace that any of the daemons has of a process that has ended.
func traceOf(t *testing.T, pid int, ds ...*harness.Daemon) event.Trace {
	t.Helper()
	var all []event.Trace
	harness.Eventually(t, fmt.Sprintf("process %d has a trace", pid), func() error {
		all = nil
		for _, d := range ds {
			for _, tr := range d.Traces() {
				if tr.Process.PID == pid && harness.Ended(tr) {
					all = append(all, tr)
				}
			}
		}
		if len(all) == 0 {
			return errors.New("it has none")
		}
		return nil
	})
	if len(all) > 1 {
		t.Errorf("process %d has %d traces", pid, len(all))
	}
	return all[0]
}
