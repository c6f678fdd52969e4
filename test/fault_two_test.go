package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
)

// second is a configuration of a second culprit, which differs in all that it has to.
const second = "firewall: {chain: SECOND}\nnflog: {group: 4242}\nrules: [{name: other, string: OTHERZONE}]\nlog: {format: json, level: debug}\n"

// gaps counts how often a daemon found its rules gone.
func (d *daemon) gaps() int {
	return strings.Count(d.output.String(), "our rules are in place again")
}

// Two daemons with a chain, a group and a directory of their own each work beside each
// other: each keeps its rules without moving those of the other, and one that stops leaves
// the other's alone.
func TestTwoDaemons(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		one := h.hunt(longWindow)
		two := h.hunt(longWindow + second)
		both := []*daemon{one, two}
		healthy := func(when string) {
			t.Helper()
			for _, d := range both {
				if r := h.culprit("rules", "status", "-c", d.config); r.code != 0 {
					t.Errorf("%s: %s%s", when, r.out, r.errors)
				}
			}
		}
		healthy("at the beginning")
		s1, s2 := h.sender(newUID()), h.sender(newUID())
		s1.ask("one.badzone.test")
		s2.ask("two.otherzone.test")
		one.hit("one.badzone.test")
		two.hit("two.otherzone.test")
		traced(t, s1.process, s2.process)

		// Somebody flushes: both come back, once each, and then nobody moves any more.
		for round, family := range []string{"iptables", "ip6tables"} {
			h.Must(t, family, "-t", "raw", "-F", "OUTPUT")
			eventually(t, "both have put their rules back", func() error {
				if one.gaps() <= round || two.gaps() <= round {
					return fmt.Errorf("%d and %d times", one.gaps(), two.gaps())
				}
				return nil
			})
			healthy("after a flush of " + family)
		}
		settled, gaps := h.firewall(), one.gaps()+two.gaps()
		quiet := time.Now().Add(10 * time.Second) // each looks twice at least
		for time.Now().Before(quiet) && !t.Failed() {
			if again := one.gaps() + two.gaps(); again != gaps {
				t.Errorf("they went on putting their rules back: %d times, then %d", gaps, again)
			}
			time.Sleep(100 * time.Millisecond)
		}
		h.unchanged(settled, "while both look")

		one.stop()
		free(t, s1.process)
		traced(t, s2.process)
		both = both[1:]
		healthy("when the first has stopped")
		s2.ask("three.otherzone.test")
		two.hit("three.otherzone.test")
		if len(one.hits()) != 1 || len(two.hits()) != 2 {
			t.Errorf("%d and %d hits, want 1 and 2", len(one.hits()), len(two.hits()))
		}
		two.stop()
		h.Must(t, "iptables", "-t", "raw", "-F")
		if after := h.firewall(); strings.Contains(after, "CULPRIT") || strings.Contains(after, "SECOND") {
			t.Errorf("after both the firewall was\n%s, before\n%s", after, before)
		}
	})
}

// Two gates at once: programs of a user that only one of them captures are traced by that
// one; of a user that both capture, each by one of them, from its first instruction, and the
// other says who has it. Nobody is held up.
func TestTwoGates(t *testing.T) {
	for name, how := range map[string]string{"execve": "", "stop": "  gate: stop\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			one := h.hunt(gated)
			two := h.hunt(gated + how + second)
			mine, others, shared := newUID(), newUID(), newUID()
			innocent := h.stream(newUID(), 0, 1, programs.offenderC, "-n", "LABEL.goodzone.test")
			ask := func(uid uint32, name string) *sender {
				s := h.sender(uid)
				s.ask(name)
				return s
			}
			ask(mine, "one.badzone.test")
			ask(others, "two.otherzone.test")
			both := ask(shared, "three.badzone.otherzone.test")
			one.hit("three.badzone.otherzone.test")
			two.hit("three.badzone.otherzone.test")
			traced(t, both.process)
			one.inPlace(1)
			two.inPlace(1)

			const count = 20
			streams := map[uint32]*stream{}
			for _, uid := range []uint32{mine, others, shared} {
				streams[uid] = h.stream(uid, count, 3, programs.offenderC, "-n", "LABEL.goodzone.test", "-a", "20")
			}
			for uid, s := range streams {
				runs := s.await()
				for _, r := range runs {
					tr := traceOf(t, r.pid, one, two)
					// With two gates on it a program may go by its parent's name.
					complete(t, tr, r.label)
					if by := one.tracedPIDs()[r.pid]; uid == mine && !by || uid == others && by {
						t.Errorf("a program of user %d was traced by the wrong one", uid)
					}
				}
			}
			for _, d := range []*daemon{one, two} {
				c := d.capture(shared, "says who traced what it did not", func(c event.Capture) bool {
					for _, m := range c.Culprit.Examples {
						if m.Reason.Code == event.UntracedForeign && strings.Contains(m.Reason.Detail, "(strace)") {
							return true
						}
					}
					return d.tracedPIDs()[both.pid] && len(d.traces("--user", fmt.Sprint(shared))) == count+1
				})
				t.Logf("%d traces, missed %v, gate failures %d", c.Culprit.Traces, c.Culprit.Missed, c.Culprit.GateFailures)
				if c.Culprit.GateFailures > 0 {
					t.Errorf("the gate of %d failed", d.pid)
				}
			}
			innocent.finish(held)

			// The one that stays takes what starts from now on.
			one.stop()
			h.unharmed(mine)
			runs := h.stream(shared, 5, 1, programs.offenderC, "-n", "LABEL.nextzone.test", "-a", "20").await()
			for _, r := range runs {
				whole(t, two.trace(r.pid, "has ended", ended), r.label)
			}
			two.stop()
			h.unharmed(mine, others, shared)
		})
	}
}

// traceOf waits for the one trace that any of the daemons has of a process that has ended.
func traceOf(t *testing.T, pid int, ds ...*daemon) event.Trace {
	t.Helper()
	var all []event.Trace
	eventually(t, fmt.Sprintf("process %d has a trace", pid), func() error {
		all = nil
		for _, d := range ds {
			for _, tr := range d.traces() {
				if tr.Process.PID == pid && ended(tr) {
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
