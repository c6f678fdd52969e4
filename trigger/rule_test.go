package trigger

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/lists/format"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

// evil is a list with entries for evil.example.
func evil(t testing.TB) *set.Set {
	return settest.New(t, format.Entry{Name: "evil.example", Kind: format.Whole, Line: 7, Comment: "C2"},
		format.Entry{Name: "good.evil.example", Kind: format.Whole, Except: true})
}

// listed is a processor with one rule, named list, of a list with entries for evil.example.
func listed(t testing.TB) *processor {
	t.Helper()
	p := mustProcessor(t, "rules: [{name: x, string: y}]")
	p.rules = byName(listRules(t, evil(t)))
	return p
}

// listRules are the rule named list with a list.
func listRules(t testing.TB, s *set.Set) []Rule {
	t.Helper()
	rules, err := Rules([]config.Rule{{Name: "list", List: config.Paths{"/lists/feed.txt"}}}, map[string]*set.Set{"list": s})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

const (
	listedName = "\x03WWW\x04eViL\x07example"
	other      = "\x04good\x04name\x07example"
)

// segment makes DNS messages the payload of TCP.
func segment(messages ...[]byte) (b []byte) {
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

func answer(m []byte) []byte {
	m = append([]byte(nil), m...)
	m[2] |= 0x80
	return m
}

// Only a question about a name on the list is a hit, wherever it stands in the packet.
func TestListed(t *testing.T) {
	t.Parallel()
	evil, harmless := query(1, listedName, 1), query(2, other, 1)
	var many [][]byte
	for range 40 {
		many = append(many, harmless)
	}
	edns := append(query(3, other, 1), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
	edns[11] = 1
	twoQuestions := append(query(1, other, 1), listedName+"\x00\x00\x01\x00\x01"...)
	twoQuestions[5] = 2
	pointer := append(query(1, "\x04evil\x07example", 1), "\x03www\xc0\x0c\x00\x01\x00\x01"...)
	pointer[5] = 2
	for _, tt := range []struct {
		name    string
		tcp     bool
		payload []byte
		hit     bool
	}{
		{"listed", false, evil, true},
		{"not listed", false, harmless, false},
		{"EDNS", false, edns, false},
		{"excepted", false, query(1, "\x04good\x04evil\x07example", 1), false},
		{"one label for two", false, query(1, "\x0cevil.example", 1), false},
		{"an answer", false, answer(evil), false},
		{"second question", false, twoQuestions, true},
		{"compressed", false, pointer, true},
		{"another datagram behind", false, append(append([]byte(nil), harmless...), evil...), true},
		{"an answer behind", false, append(append([]byte(nil), harmless...), answer(evil)...), false},
		{"no DNS", false, []byte("evil.example"), false},
		{"nothing", false, nil, false},
		{"TCP", true, segment(evil), true},
		{"TCP without the length", true, evil, true},
		{"TCP, the second", true, segment(harmless, evil), true},
		{"TCP, behind many", true, segment(append(many, evil)...), true},
		{"TCP, many others", true, segment(many...), false},
		{"TCP, from within a message", true, segment(harmless, evil)[9:], true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := listed(t)
			data := ip(t, "2001:db8::1", "2001:db8::2", udp(4000, 53), tt.payload)
			if tt.tcp {
				data = ip(t, "192.0.2.1", "192.0.2.2", tcp(4000, 53), tt.payload)
			}
			out := newCollector()
			p.packet(nflogPacket{rule: "list", data: data}, 0, out)
			if got := len(out.hits) == 1; got != tt.hit {
				t.Fatalf("a hit: %v", got)
			}
			want := Looked{Misses: 1}
			if tt.hit {
				want = Looked{Hits: 1}
				h := out.hits[0]
				if h.Entry() != "feed.txt:7 evil.example # C2" || h.Culprit.Listed.Scope != event.ScopeWhole || h.Threat.Indicator.Reference != "/lists/feed.txt:7" ||
					!strings.HasSuffix(h.DNS.Question.Name, "evil.example") {
					t.Errorf("%+v, %+v, %+v", h.Threat, h.Culprit.Listed, h.DNS)
				}
			}
			if p.looked["list"] != want || len(p.lost) > 0 {
				t.Errorf("looked %v, lost %v", p.looked, p.lost)
			}
		})
	}
}

// What was cut off may have held a listed name: that is told.
func TestListedBehindTheCut(t *testing.T) {
	t.Parallel()
	p := listed(t)
	whole := ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), append(query(2, other, 1), query(1, listedName, 1)...))
	p.packet(nflogPacket{rule: "list", data: whole[:len(whole)-30]}, 0, newCollector())
	if p.lost[event.LossCut] != 1 {
		t.Errorf("lost %v", p.lost)
	}
}

func TestListNotLoaded(t *testing.T) {
	t.Parallel()
	if _, err := Rules([]config.Rule{{Name: "list", List: config.Paths{"/x"}}}, nil); err == nil {
		t.Error("a rule without its list was taken")
	}
}

// Whatever a packet holds: what is found is a question about a listed name, and names the entry.
func FuzzListed(f *testing.F) {
	rule := listed(f).rules["list"]
	f.Add(query(1, listedName, 1))
	f.Add(segment(query(2, other, 1), query(1, listedName, 1))[9:])                 // from within a message
	f.Add(append(query(1, other, 1), query(1, listedName, 1)...))                   // another datagram behind
	f.Add(bytes.Repeat([]byte{0, 1, 0, 0}, 100))                                    // what may be headers everywhere
	f.Add(append(query(1, "\x04evil\x07example", 1), "\x03www\xc0\x0c\x00\x01"...)) // a pointer
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, transport := range []string{"udp", "tcp"} {
			asked := questions(transport, payload)
			asked = append(asked, rule.later(transport, payload)...)
			at := rule.matching(asked)
			if at < 0 {
				continue
			}
			h := new(event.Hit)
			rule.name(h, asked[at])
			name := "." + asked[at].Question.Name
			if asked[at].answer || !strings.HasSuffix(name, ".evil.example") || strings.HasSuffix(name, ".good.evil.example") || h.Entry() != "feed.txt:7 evil.example # C2" {
				t.Errorf("%q: %q is %q", payload, name, h.Entry())
			}
		}
	})
}
