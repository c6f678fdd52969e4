package testkit

import (
	"strings"
	"testing"
)

func TestNetIsPrivate(t *testing.T) {
	t.Parallel()
	n := NewNet(t)
	n.Bind(t, "/etc/resolv.conf", "nameserver 127.0.0.1\n")
	if got := n.Must(t, "cat", "/etc/resolv.conf"); got != "nameserver 127.0.0.1\n" {
		t.Errorf("resolv.conf in the namespace: %q", got)
	}
	if got := n.Must(t, "ip", "-o", "link"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "LOOPBACK,UP") {
		t.Errorf("links in the namespace: %s", got)
	}
}

func TestUseBackend(t *testing.T) {
	t.Parallel()
	want := map[string]string{"nft": "(nf_tables)", "legacy": "(legacy)"}
	for _, b := range Backends {
		n := NewNet(t)
		n.UseBackend(t, b)
		for _, cmd := range []string{"iptables", "ip6tables"} {
			if got := n.Must(t, cmd, "--version"); !strings.Contains(got, want[b]) {
				t.Errorf("%s with backend %s: %s", cmd, b, got)
			}
		}
	}
}
