package hunt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"culprit/test/harness"
)

const manyRules = harness.LongWindow + `
rules:
  - {name: domain, domain: badzone.test}
  - {name: string, string: EvilText}
  - {name: hex, hex: "|04|evil|03|hex|00|"}
  - {name: to, string: nettext, to: [127.0.0.2/31, "::1"]}
  - {name: ports, string: porttext, ports: [5300, 5301]}
  - {name: tcp, string: tcptext, protocols: [tcp]}
  - {name: ipv6, string: sixtext, families: [ipv6]}
`

// Each rule matches what it says, and nothing else.
func TestMatching(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		d := h.Hunt(manyRules)
		uid := harness.NewUID()
		want := map[string][]string{}
		for _, c := range []struct {
			asked string
			flags string // of the offender
			rules []string
		}{
			{"badzone.test", "", []string{"domain"}},
			{"x.badzone.test", "", []string{"domain"}},
			{"y.z.badzone.test", "-t -w", []string{"domain"}},
			{"v6.badzone.test", "-s ::1", []string{"domain"}},
			{"x.BADZONE.Test", "", []string{"domain"}},
			{"notbadzone.test", "", nil},
			{"badzone.test.org", "", nil},
			{"badzone.testing", "", nil},
			{"badzone.test.badzone", "", nil},
			{"x.eviltext.org", "", []string{"string"}},
			{"EVILTEXTS.org", "-s ::1", []string{"string"}},
			{"x.eviltext.badzone.test", "", []string{"domain", "string"}},
			{"evil.text", "", nil},
			{"evil.hex", "", []string{"hex"}},
			{"a.evil.hex", "-t -w", []string{"hex"}},
			{"EVIL.hex", "", nil},
			{"devil.hex", "", nil},
			{"one.nettext", "-s 127.0.0.1", nil},
			{"two.nettext", "-s 127.0.0.2", []string{"to"}},
			{"three.nettext", "-s 127.0.0.3", []string{"to"}},
			{"four.nettext", "-s 127.0.0.4", nil},
			{"six.nettext", "-s ::1", []string{"to"}},
			{"a.porttext", "", nil},
			{"b.porttext", "-p 5300", []string{"ports"}},
			{"c.porttext", "-p 5301 -s ::1", []string{"ports"}},
			{"d.porttext", "-p 5302", nil},
			{"udp.tcptext", "", nil},
			{"tcp.tcptext", "-t -w", []string{"tcp"}},
			{"a.sixtext", "", nil},
			{"b.sixtext", "-s ::1", []string{"ipv6"}},
			{"last.badzone.test", "", []string{"domain"}},
		} {
			name := strings.ToLower(c.asked)
			if c.rules != nil {
				want[name] = append(want[name], c.rules...)
			}
			args := append([]string{"-n", c.asked}, strings.Fields(c.flags)...)
			if p := h.StartAs(uid, harness.Programs.OffenderC, args...); p.Wait() != 0 {
				t.Fatalf("%v: %s", p.Cmd.Args, p.Output)
			}
		}
		// Packets come in the order in which they were sent.
		d.Hit("last.badzone.test")
		d.Stop()
		got := map[string][]string{}
		for _, hit := range d.Hits() {
			name := hit.DNS.Question.Name
			got[name] = append(got[name], hit.Rule.Name)
		}
		for name := range maps.All(got) {
			slices.Sort(got[name])
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			for name, rules := range want {
				if !slices.Equal(got[name], rules) {
					t.Errorf("%s: hit by %v, want %v", name, got[name], rules)
				}
				delete(got, name)
			}
			for name, rules := range got {
				t.Errorf("%s: hit by %v, want none", name, rules)
			}
		}
	})
}

// What is no DNS is a hit of a rule that looks for text; for one that looks for a
// domain it is a loss, which is told.
func TestNoDNS(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(manyRules)
	s := h.Sender(harness.NewUID())
	s.Raw("\x07badzone\x04test\x00") // the pattern, but no message around it
	s.Raw("no message: eviltext\x1b[2J")
	harness.Eventually(t, "the text is a hit", func() error {
		if len(d.Hits()) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	harness.Traced(t, s.Process)
	d.AwaitLog("lost")
	if log := d.Output.String(); !strings.Contains(log, "packets without a DNS question in the rule's domain") {
		t.Errorf("the log does not say what was lost:\n%s", log)
	}
	hits := d.Hits()
	if len(hits) != 1 || hits[0].Rule.Name != "string" || hits[0].DNS != nil || hits[0].Culprit.Capture == nil {
		t.Fatalf("hits: %+v, want one of the rule string, without a question, with a capture", hits)
	}
	if got := h.Culprit("show", "--evidence", d.Evidence, hits[0].Event.ID).Must(t); !strings.Contains(got, "65 76 69 6c 74 65") || strings.Contains(got, "\x1b") {
		t.Errorf("culprit show should have the packet's bytes, as text:\n%s", got)
	}
	d.Stop()
	if got := fmt.Sprint(len(d.Hits()), len(d.Traces())); got != "1 1" {
		t.Errorf("hits and traces at the end: %s, want 1 1", got)
	}
}
