package trigger

import (
	"bytes"
	"testing"
	"time"

	"culprit/internal/config"
	"culprit/internal/event"
)

// collector is an Output that keeps everything.
type collector struct {
	hits     []*event.Hit
	repeated map[string]int
	lost     map[event.LossCode]uint64
	losses   []event.Loss
	let      []uint64
	looked   map[string]Looked
}

func newCollector() *collector {
	return &collector{repeated: map[string]int{}, lost: map[event.LossCode]uint64{}, looked: map[string]Looked{}}
}

func (c *collector) Hit(h *event.Hit)              { c.hits = append(c.hits, h) }
func (c *collector) Repeated(id string, count int) { c.repeated[id] = count }
func (c *collector) LetGo(hold uint64)             { c.let = append(c.let, hold) }
func (c *collector) Lost(l event.Loss) {
	c.lost[l.Culprit.Code] += l.Culprit.Count
	c.losses = append(c.losses, l)
}

func (c *collector) Looked(rule string, n Looked) { c.looked[rule] = n }

func mustRules(t testing.TB, c *config.Config) []Rule {
	t.Helper()
	rules, err := Rules(c.Rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func mustProcessor(t testing.TB, yaml string) *processor {
	t.Helper()
	c, err := config.Parse("test", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProcessor(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	p.rules = byName(mustRules(t, c))
	return p
}

const twoRules = "rules: [{name: text, string: badzone}, {name: zone, domain: badzone.test}]"

// The rule of a packet decides whether it is a hit.
func TestPackets(t *testing.T) {
	t.Parallel()
	v4 := func(payload []byte) []byte { return ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), payload) }
	for _, tt := range []struct {
		name, rule string
		data       []byte
		asks       string // of the hit; "" for none
		lost       event.LossCode
	}{
		{"string", "text", v4(query(1, xBadzone, 1)), "x.badzone.test A", ""},
		{"string, not DNS", "text", v4([]byte("hello badzone")), "-", ""},
		{"string, not even IP", "text", []byte("badzone"), "-", ""},
		{"string, another name", "text", v4(query(1, "\x07badzone\x03org", 1)), "badzone.org A", ""},
		{"domain", "zone", v4(query(1, "\x07BADzone\x04test", 15)), "badzone.test MX", ""},
		{"domain, below", "zone", v4(query(1, xBadzone, 28)), "x.badzone.test AAAA", ""},
		{"domain, a label that ends alike", "zone", v4(query(1, "\x0anotbadzone\x04test", 1)), "", event.LossUnverified},
		{"domain, a label with a dot", "zone", v4(query(1, "\x0cx.badzone.te\x02st", 1)), "", event.LossUnverified},
		{"domain, not DNS", "zone", v4([]byte("\x07badzone\x04test\x00")), "", event.LossUnverified},
		{"domain, not IP", "zone", nil, "", event.LossUnverified},
		{"unknown rule", "other", v4(query(1, xBadzone, 1)), "", event.LossForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, out := mustProcessor(t, twoRules), newCollector()
			p.packet(nflogPacket{time: time.Now(), rule: tt.rule, data: tt.data}, 0, out)
			p.report(&Listener{}, out)
			if tt.asks == "" {
				if len(out.hits) != 0 || out.lost[tt.lost] != 1 {
					t.Errorf("%d hits, losses %v; want one of %q", len(out.hits), out.lost, tt.lost)
				}
				return
			}
			if len(out.hits) != 1 || len(out.lost) != 0 {
				t.Fatalf("%d hits, losses %v; want one hit", len(out.hits), out.lost)
			}
			h := out.hits[0]
			if h.Asks() != tt.asks || h.Rule.Name != tt.rule || h.User != nil || h.Culprit.Count != 1 || h.Culprit.Origin.Grade != event.GradeNone {
				t.Errorf("hit %+v asks %q, want %q", h, h.Asks(), tt.asks)
			}
		})
	}
}

// Of several questions in one segment the hit shows the one that matched, and keeps all.
func TestTwoQuestions(t *testing.T) {
	t.Parallel()
	length := func(m []byte) []byte { return append([]byte{byte(len(m) >> 8), byte(len(m))}, m...) }
	good := query(1, "\x04good\x04test", 1)
	for _, rule := range []string{"text", "zone"} {
		p, out := mustProcessor(t, twoRules), newCollector()
		p.packet(nflogPacket{rule: rule, data: ip(t, "192.0.2.1", "192.0.2.2", tcp(4000, 53), append(length(good), length(query(2, xBadzone, 28))...))}, 0, out)
		if len(out.hits) != 1 {
			t.Fatalf("%s: %d hits", rule, len(out.hits))
		}
		h := out.hits[0]
		if q := h.Culprit.Questions; h.Asks() != "x.badzone.test AAAA" || h.DNS.ID != "2" || len(q) != 2 || q[0].Question.Name != "good.test" || q[1].Question.Name != "x.badzone.test" {
			t.Errorf("%s: the hit asks %q of %+v", rule, h.Asks(), q)
		}
	}
}

// A question in a later datagram of one system call (UDP_SEGMENT) is found; text that is no
// question is not.
func TestSegments(t *testing.T) {
	t.Parallel()
	good, bad := query(1, "\x04good\x04test\x05xxxxx", 1), query(2, xBadzone, 28)
	answer := append([]byte(nil), bad...)
	answer[2] |= 0x80
	whole := func(payload []byte) []byte { return ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), payload) }
	for _, tt := range []struct {
		name string
		data []byte
		asks string // "" if it is no hit
	}{
		{"the second", whole(append(append([]byte(nil), good...), bad...)), "x.badzone.test AAAA"},
		{"behind what is no DNS", whole(append([]byte("12345678901234567890"), bad...)), "x.badzone.test AAAA"},
		{"an answer", whole(append(append([]byte(nil), good...), answer...)), ""},
		{"text", whole(append(append([]byte(nil), good...), "\x07badzone\x04test\x00\x00\x01\x00\x01"...)), ""},
		{"again and again", whole(bytes.Repeat([]byte("\x07badzone\x04test\x00"), 3000)), ""},
		{"cut before it", whole(append(append([]byte(nil), good...), bad...))[:20+8+len(good)+5], "good.test.xxxxx A"},
	} {
		p, out := mustProcessor(t, twoRules), newCollector()
		p.packet(nflogPacket{rule: "zone", data: tt.data}, 0, out)
		switch {
		case tt.asks == "" && len(out.hits) > 0:
			t.Errorf("%s: a hit that asks %s", tt.name, out.hits[0].Asks())
		case tt.asks != "" && (len(out.hits) != 1 || out.hits[0].Asks() != tt.asks):
			t.Errorf("%s: %d hits, want one that asks %s", tt.name, len(out.hits), tt.asks)
		}
	}
}

// Equal packets within a second are one hit; any difference makes another hit.
func TestRepeats(t *testing.T) {
	t.Parallel()
	p, out := mustProcessor(t, twoRules), newCollector()
	start := time.Now()
	uid := uint32(64201)
	send := func(after time.Duration, port uint16, id uint16, qtype byte, uid *uint32) {
		p.packet(nflogPacket{time: start.Add(after), rule: "text", uid: uid, data: ip(t, "192.0.2.1", "192.0.2.2", udp(port, 53), query(id, xBadzone, qtype))}, 0, out)
	}
	send(0, 4000, 1, 1, nil)
	send(100*time.Millisecond, 4000, 2, 1, nil) // the dns id does not matter
	send(900*time.Millisecond, 4000, 1, 1, nil)
	send(910*time.Millisecond, 4000, 1, 28, nil) // another question
	send(920*time.Millisecond, 4001, 1, 1, nil)  // another flow
	send(930*time.Millisecond, 4000, 1, 1, &uid) // another user
	send(1100*time.Millisecond, 4000, 1, 1, nil) // a second later
	if len(out.hits) != 5 {
		t.Fatalf("%d hits, want 5", len(out.hits))
	}
	if left := p.repeats.expire(start.Add(1500*time.Millisecond), out.Repeated); left != 4 {
		t.Errorf("%d hits are remembered after 1.5 s, want 4", left)
	}
	if left := p.repeats.expire(start.Add(time.Minute), out.Repeated); left != 0 || p.repeats.byKey != nil {
		t.Errorf("%d hits are remembered after a minute", left)
	}
	if len(out.repeated) != 1 || out.repeated[out.hits[0].Event.ID] != 3 {
		t.Errorf("repeats %v, want 3 of the first", out.repeated)
	}
}

func TestRateIsBounded(t *testing.T) {
	t.Parallel()
	p, out := mustProcessor(t, twoRules+"\nnflog: {rate: 10}"), newCollector()
	now := time.Now()
	for port := range uint16(100) {
		p.packet(nflogPacket{time: now, rule: "text", data: ip(t, "192.0.2.1", "192.0.2.2", udp(port+1, 53), query(1, xBadzone, 1))}, 0, out)
	}
	p.report(&Listener{}, out)
	if len(out.hits) != 50 || out.lost[event.LossRate] != 50 {
		t.Errorf("%d hits kept, %d lost; want 50 and 50", len(out.hits), out.lost[event.LossRate])
	}
}

func TestUserAndQuestions(t *testing.T) {
	t.Parallel()
	p, out := mustProcessor(t, twoRules), newCollector()
	uid, gid := uint32(0), uint32(64200)
	a, aaaa := query(7, xBadzone, 1), query(8, xBadzone, 28)
	payload := append([]byte{0, byte(len(a))}, a...)
	payload = append(append(payload, 0, byte(len(aaaa))), aaaa...)
	p.packet(nflogPacket{time: time.Now(), rule: "text", uid: &uid, gid: &gid, data: ip(t, "192.0.2.1", "192.0.2.2", tcp(4000, 53), payload)}, 0, out)
	h := out.hits[0]
	if h.User.String() != "root (0)" || h.User.Group.ID != "64200" {
		t.Errorf("user %v, group %v", h.User, h.User.Group)
	}
	if len(h.Culprit.Questions) != 2 || h.DNS.ID != "7" || h.Culprit.Questions[1].ID != "8" {
		t.Errorf("questions %+v", h.Culprit.Questions)
	}
	// In a flood nobody searches for origins, and the hit says so.
	p.packet(nflogPacket{time: time.Now(), rule: "text", uid: &uid, data: ip(t, "192.0.2.1", "192.0.2.2", udp(1, 53), a)}, busyBacklog+1, out)
	if o := out.hits[1].Culprit.Origin; o.Grade != event.GradeNone || o.Reason.Code != event.UnattributedFlood {
		t.Errorf("origin in a flood: %+v", o)
	}
}

// lossy is a sensor that lost what it saw of some packets.
type lossy struct {
	noSenders
	lost uint64
}

func (l *lossy) Lost() uint64 {
	n := l.lost
	l.lost = 0
	return n
}

// What is lost of senders is a loss of its own, reported once.
func TestLostSenders(t *testing.T) {
	t.Parallel()
	p := &processor{senders: &lossy{lost: 3}, others: noOthers{}, shares: newShares(1), lost: map[event.LossCode]uint64{}}
	l, out := new(Listener), new(losses)
	p.report(l, out)
	p.report(l, out)
	if len(out.all) != 1 || out.all[0].Code != event.LossSenders || out.all[0].Count != 3 {
		t.Errorf("%+v", out.all)
	}
}

type losses struct {
	Output
	all []event.LossDetail
}

func (o *losses) Lost(l event.Loss) { o.all = append(o.all, l.Culprit) }
