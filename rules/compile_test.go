package rules

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"culprit/internal/config"
)

// parse reads a configuration as the daemon does.
func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, rules string
		want        string // "family name: args", one a line
	}{
		{"defaults", `{name: badzone, string: BADZONE}`, `
ipv4 badzone: -p udp --dport 53 -m string --algo kmp --from 28 --string BADZONE --icase -j NFLOG --nflog-group 7 --nflog-prefix badzone --nflog-size 512 --nflog-threshold 1
ipv4 badzone: -p tcp --dport 53 -m string --algo kmp --from 40 --string BADZONE --icase -j NFLOG --nflog-group 7 --nflog-prefix badzone --nflog-size 512 --nflog-threshold 1
ipv6 badzone: -p udp --dport 53 -m string --algo kmp --from 48 --string BADZONE --icase -j NFLOG --nflog-group 7 --nflog-prefix badzone --nflog-size 512 --nflog-threshold 1
ipv6 badzone: -p tcp --dport 53 -m string --algo kmp --from 60 --string BADZONE --icase -j NFLOG --nflog-group 7 --nflog-prefix badzone --nflog-size 512 --nflog-threshold 1`},
		{"a domain and a net of one family", `{name: d, domain: Evil.example, protocols: [udp], to: [192.0.2.7/24, 198.51.100.1]}`, `
ipv4 d: -p udp --dport 53 -d 192.0.2.0/24 -m string --algo kmp --from 28 --hex-string |046576696c076578616d706c6500| --icase -j NFLOG --nflog-group 7 --nflog-prefix d --nflog-size 512 --nflog-threshold 1
ipv4 d: -p udp --dport 53 -d 198.51.100.1/32 -m string --algo kmp --from 28 --hex-string |046576696c076578616d706c6500| --icase -j NFLOG --nflog-group 7 --nflog-prefix d --nflog-size 512 --nflog-threshold 1`},
		{"nets of both families, each to its own", `{name: h, hex: "|04|evil", protocols: [tcp], to: ["2001:db8::/32", 192.0.2.1]}`, `
ipv4 h: -p tcp --dport 53 -d 192.0.2.1/32 -m string --algo kmp --from 40 --hex-string |046576696c| -j NFLOG --nflog-group 7 --nflog-prefix h --nflog-size 512 --nflog-threshold 1
ipv6 h: -p tcp --dport 53 -d 2001:db8::/32 -m string --algo kmp --from 60 --hex-string |046576696c| -j NFLOG --nflog-group 7 --nflog-prefix h --nflog-size 512 --nflog-threshold 1`},
		{"a list", `{name: l, list: /etc/culprit/lists/*.txt, to: [192.0.2.1]}`, `
ipv4 l: -p udp --dport 53 -d 192.0.2.1/32 -j NFLOG --nflog-group 7 --nflog-prefix l --nflog-size 512 --nflog-threshold 1
ipv4 l: -p tcp --dport 53 -d 192.0.2.1/32 -j NFLOG --nflog-group 7 --nflog-prefix l --nflog-size 512 --nflog-threshold 1`},
		{"listed twice, logged once", `{name: p, string: x, protocols: [udp, udp], ports: [53, 5353, 53], to: [10.0.0.1/8, 10.0.0.0/8], families: [ipv4, ipv4]}`, `
ipv4 p: -p udp --dport 53 -d 10.0.0.0/8 -m string --algo kmp --from 28 --string x --icase -j NFLOG --nflog-group 7 --nflog-prefix p --nflog-size 512 --nflog-threshold 1
ipv4 p: -p udp --dport 5353 -d 10.0.0.0/8 -m string --algo kmp --from 28 --string x --icase -j NFLOG --nflog-group 7 --nflog-prefix p --nflog-size 512 --nflog-threshold 1`},
		{"one family", `{name: a, string: x, protocols: [udp], families: [ipv6]}, {name: b, string: y, protocols: [udp], families: [ipv6]}`, `
ipv6 a: -p udp --dport 53 -m string --algo kmp --from 48 --string x --icase -j NFLOG --nflog-group 7 --nflog-prefix a --nflog-size 512 --nflog-threshold 1
ipv6 b: -p udp --dport 53 -m string --algo kmp --from 48 --string y --icase -j NFLOG --nflog-group 7 --nflog-prefix b --nflog-size 512 --nflog-threshold 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all, err := Compile(parse(t, "nflog: {group: 7, snaplen: 512}\nrules: ["+tt.rules+"]"), Sensing{})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, r := range all {
				got.WriteString("\n" + r.Family + " " + r.Name + ": " + strings.Join(r.Args, " "))
			}
			if d := cmp.Diff(tt.want, got.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

// A sensor at the rule would run for every question: rules with lists have none.
func TestListsAreNotSensed(t *testing.T) {
	t.Parallel()
	c := parse(t, "rules: [{name: l, list: /x}]")
	plain, err := Compile(c, Sensing{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Sensing{{Pin: "/pin"}, {Mark: 1 << 30}} {
		if sensed, err := Compile(c, s); err != nil || !cmp.Equal(plain, sensed) {
			t.Errorf("%+v: %v, %v", s, sensed, err)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	c := &config.Config{Rules: []config.Rule{{Name: "a", Hex: "|0", Families: []string{"ipv4"}}}}
	if _, err := Compile(c, Sensing{}); err == nil || !strings.HasPrefix(err.Error(), `compile rules[0] "a": `) {
		t.Errorf("got %v", err)
	}
	if _, err := Commands(c); err == nil {
		t.Error("no error from Commands")
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	got, err := Commands(parse(t, `
rules: [{name: a, hex: "|0a|", protocols: [udp]}, {name: b, string: "it's", protocols: [tcp], families: [ipv4]}]
firewall: {table: mangle, chain: C}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"iptables -t mangle -N C --wait 5",
		"iptables -t mangle -A C -p udp --dport 53 -m string --algo kmp --from 28 --hex-string '|0a|' -j NFLOG --nflog-group 5353 --nflog-prefix a --nflog-size 2048 --nflog-threshold 1 --wait 5",
		"iptables -t mangle -A C -p tcp --dport 53 -m string --algo kmp --from 40 --hex-string '|69742773|' --icase -j NFLOG --nflog-group 5353 --nflog-prefix b --nflog-size 2048 --nflog-threshold 1 --wait 5",
		"iptables -t mangle -I OUTPUT 1 -j C --wait 5",
		"ip6tables -t mangle -N C --wait 5",
		"ip6tables -t mangle -A C -p udp --dport 53 -m string --algo kmp --from 48 --hex-string '|0a|' -j NFLOG --nflog-group 5353 --nflog-prefix a --nflog-size 2048 --nflog-threshold 1 --wait 5",
		"ip6tables -t mangle -I OUTPUT 1 -j C --wait 5",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
