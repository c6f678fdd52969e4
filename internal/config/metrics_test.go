package config

import (
	"strings"
	"testing"
)

func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]struct{ network, address, err string }{
		"":                                  {},
		"unix:/run/culprit/metrics.sock":    {network: "unix", address: "/run/culprit/metrics.sock"},
		"127.0.0.1:9357":                    {network: "tcp", address: "127.0.0.1:9357"},
		"127.0.0.2:1":                       {network: "tcp", address: "127.0.0.2:1"},
		"[::1]:9357":                        {network: "tcp", address: "[::1]:9357"},
		"0.0.0.0:9357":                      {err: "can be reached from other machines"},
		"[::]:9357":                         {err: "can be reached from other machines"},
		"192.0.2.1:9357":                    {err: "can be reached from other machines"},
		"[fe80::1%lo]:9357":                 {err: "is not an address"},
		"[::1%eth0]:9357":                   {err: "is not an address"},
		":9357":                             {err: "is not an address"},
		"localhost:9357":                    {err: "is not an address"},
		"127.0.0.1":                         {err: "is not an address"},
		"127.0.0.1:0":                       {err: "has no port"},
		"127.0.0.1:99999":                   {err: "is not an address"},
		"unix:":                             {err: "absolute path"},
		"unix:metrics.sock":                 {err: "absolute path"},
		"unix:/":                            {err: "absolute path"},
		"unix:/run/../etc/metrics.sock":     {err: "absolute path"},
		"unix:@culprit":                     {err: "absolute path"},
		"unix:/" + strings.Repeat("a", 107): {err: "longer than the kernel allows"},
	} {
		network, address, err := Metrics{listen}.Address()
		if network != want.network || address != want.address || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%q: %q %q %v, want %+v", listen, network, address, err, want)
		}
	}
}

// There is a warning if others can read the metrics, and by default there are none to read.
func TestMetricsWarning(t *testing.T) {
	t.Parallel()
	const rule = "rules: [{name: a, string: b}]\n"
	for text, warned := range map[string]bool{
		rule: false,
		rule + "metrics: {listen: \"unix:/run/x\"}": false,
		rule + "metrics: {listen: \"[::1]:1\"}":     true,
	} {
		c, err := Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if ws := strings.Join(c.Warnings(), "\n"); strings.Contains(ws, "every user of this machine") != warned {
			t.Errorf("%s: the warnings are %q", text, ws)
		}
	}
	if got := Default().Metrics; got != (Metrics{}) {
		t.Errorf("by default %+v", got)
	}
	_, err := Parse("f", []byte(rule+"metrics: {listen: \"0.0.0.0:9357\"}"))
	if err == nil || !strings.Contains(err.Error(), "metrics.listen") {
		t.Errorf("all addresses: %v", err)
	}
}
