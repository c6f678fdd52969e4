package cli

import (
	"strings"
	"testing"

	"culprit/test/harness"
)

// What rules print prints is what rules install does.
func TestRulesPrint(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		config, _ := h.Configure(`
rules:
  - {name: one, string: "it's \"BAD\" $ZONE\\"}
  - {name: two, domain: badzone.test, ports: [53, 5353], protocols: [udp]}
  - {name: three, hex: "|0a|evil", to: [192.0.2.0/24, "2001:db8::/32"], families: [ipv4, ipv6]}
  - {name: four, string: x, families: [ipv6]}
firewall: {table: mangle, chain: MINE}
`)
		other := harness.NewHost(t, h.Backend)
		for _, h := range []*harness.Host{h, other} {
			// Where rules install makes the table, it notes that to remove it again.
			for _, tool := range []string{"iptables", "ip6tables"} {
				h.Must(t, tool, "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "--dport", "9", "-j", "DROP")
			}
		}
		before := h.Firewall()
		printed := h.Culprit("rules", "print", "-c", config).Must(t)
		h.Unchanged(before, "after rules print")
		h.Culprit("rules", "install", "-c", config).Must(t)
		installed := h.Firewall()

		for line := range strings.Lines(printed) {
			other.Must(t, "sh", "-c", line)
		}
		if got := other.Firewall(); got != installed {
			t.Errorf("the printed commands make\n%s\nrules install makes\n%s", got, installed)
		}
		// What was made by hand is ours all the same.
		other.Culprit("rules", "status", "-c", config).Must(t)
		other.Culprit("rules", "remove", "--chain", "MINE", "-c", config).Fails(t, 2, "not both")
		other.Culprit("rules", "remove", "-c", config).Must(t)
		other.Unchanged(before, "after rules remove")
	})
}

func TestRulesByHand(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		config, _ := h.Configure("")
		h.Must(t, "iptables", "-A", "OUTPUT", "-p", "udp", "--dport", "9", "-j", "DROP")
		before := h.Firewall()
		h.Culprit("rules", "status", "-c", config).Fails(t, 1, "not all in place")
		h.Culprit("rules", "install", "-c", config).Must(t)
		installed := h.Firewall()
		h.Culprit("rules", "install", "-c", config).Must(t)
		h.Unchanged(installed, "after a second install")
		h.Must(t, harness.Programs.OffenderC, "-n", "x.badzone.test", "-c", "3")
		h.Must(t, harness.Programs.OffenderC, "-n", "x.badzone.test", "-s", "::1", "-t", "-w")
		got := h.Culprit("rules", "status", "-c", config).Must(t)
		packets := map[string]string{} // by family and match
		family := ""
		for line := range strings.Lines(got) {
			fields := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "ipv"):
				family = fields[0]
			case fields[0] == "badzone":
				packets[family+" "+map[bool]string{true: "tcp", false: "udp"}[strings.Contains(line, "-p tcp")]] = fields[1]
			}
		}
		want := map[string]string{"ipv4 udp": "3", "ipv4 tcp": "0", "ipv6 udp": "0", "ipv6 tcp": "1"}
		for k, n := range want {
			if packets[k] != n {
				t.Errorf("rules status counts %v, want %v:\n%s", packets, want, got)
				break
			}
		}
		if !strings.Contains(got, h.Backend) || !strings.Contains(got, "raw") {
			t.Errorf("rules status should name the backend %s and the table raw:\n%s", h.Backend, got)
		}
		r := h.Culprit("rules", "remove")
		if r.Must(t); r.Out != "removed 2 chains named CULPRIT\n" {
			t.Errorf("rules remove said %s", r.Out)
		}
		h.Unchanged(before, "after rules remove")
		if got := h.Culprit("rules", "remove").Must(t); got != "removed 0 chains named CULPRIT\n" {
			t.Errorf("a second rules remove said %s", got)
		}
	})
}

// What a killed daemon leaves goes by hand, too.
func TestRulesOfTheKilled(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		d := h.Hunt("")
		d.Cmd.Process.Kill()
		d.Wait()
		h.Culprit("rules", "remove").Must(t)
		h.Unchanged(before, "after rules remove")
	})
}
