package hunt

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"culprit/test/harness"
)

// Whatever others do to the firewall while we hunt: within five seconds the rules are
// back, and the gap is told.
func TestHeal(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		empty := h.Must(t, "iptables-save")
		d := h.Hunt(harness.LongWindow)
		s := h.Sender(harness.NewUID())
		gaps := func() int { return strings.Count(d.Output.String(), "our rules are in place again") }
		for i, attack := range [][]string{
			{"iptables", "-t", "raw", "-F", "CULPRIT"},
			{"iptables", "-t", "raw", "-F", "OUTPUT"},
			{"sh", "-c", "iptables -t raw -F OUTPUT && iptables -t raw -F CULPRIT && iptables -t raw -X CULPRIT"},
			{"iptables", "-t", "raw", "-I", "OUTPUT", "-j", "ACCEPT"},
			{"ip6tables", "-t", "raw", "-F"},
			{"iptables-restore", h.Write("saved", empty+"*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp -m udp --dport 99 -j ACCEPT\nCOMMIT\n")},
		} {
			h.Must(t, attack[0], attack[1:]...)
			harness.Eventually(t, fmt.Sprintf("the rules are back after %v", attack), func() error {
				if gaps() <= i {
					return errors.New("the daemon has not noticed")
				}
				return nil
			})
			if r := h.Culprit("rules", "status", "-c", d.Config); r.Code != 0 {
				t.Errorf("after %v: %s%s", attack, r.Out, r.Errors)
			}
			name := fmt.Sprintf("after%d.badzone.test", i)
			s.Ask(name)
			d.Hit(name)
		}
		if lost := h.Culprit("losses", "--evidence", d.Evidence).Must(t); strings.Count(lost, "without our firewall rules") != gaps() {
			t.Errorf("%d gaps, but the losses are\n%s", gaps(), lost)
		}
		h.Must(t, "iptables", "-t", "raw", "-F", "OUTPUT")
		d.Stop()
		h.Must(t, "iptables", "-t", "raw", "-F")
		if after := h.Firewall(); strings.Contains(after, "CULPRIT") {
			t.Errorf("after the hunt the firewall was\n%s, before\n%s", after, before)
		}
	})
}
