package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Whatever others do to the firewall while we hunt: within five seconds the rules are
// back, and the gap is told.
func TestHeal(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		empty := h.Must(t, "iptables-save")
		d := h.hunt(longWindow)
		s := h.sender(newUID())
		gaps := func() int { return strings.Count(d.output.String(), "our rules are in place again") }
		for i, attack := range [][]string{
			{"iptables", "-t", "raw", "-F", "CULPRIT"},
			{"iptables", "-t", "raw", "-F", "OUTPUT"},
			{"sh", "-c", "iptables -t raw -F OUTPUT && iptables -t raw -F CULPRIT && iptables -t raw -X CULPRIT"},
			{"iptables", "-t", "raw", "-I", "OUTPUT", "-j", "ACCEPT"},
			{"ip6tables", "-t", "raw", "-F"},
			{"iptables-restore", h.write("saved", empty+"*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp -m udp --dport 99 -j ACCEPT\nCOMMIT\n")},
		} {
			h.Must(t, attack[0], attack[1:]...)
			within(t, 5*time.Second, fmt.Sprintf("the rules are back after %v", attack), func() error {
				if gaps() <= i {
					return errors.New("the daemon has not noticed")
				}
				return nil
			})
			if r := h.culprit("rules", "status", "-c", d.config); r.code != 0 {
				t.Errorf("after %v: %s%s", attack, r.out, r.errors)
			}
			name := fmt.Sprintf("after%d.badzone.test", i)
			s.ask(name)
			d.hit(name)
		}
		if lost := h.culprit("losses", "--evidence", d.evidence).must(t); strings.Count(lost, "without our firewall rules") != gaps() {
			t.Errorf("%d gaps, but the losses are\n%s", gaps(), lost)
		}
		h.Must(t, "iptables", "-t", "raw", "-F", "OUTPUT")
		d.stop()
		h.Must(t, "iptables", "-t", "raw", "-F")
		if after := h.firewall(); strings.Contains(after, "CULPRIT") {
			t.Errorf("after the hunt the firewall was\n%s, before\n%s", after, before)
		}
	})
}
