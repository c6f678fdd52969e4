package selftest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/internal/event"
)

var began = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// packet makes the hit of a query that was sent after the given time.
func packet(q sentQuery, after time.Duration) event.Hit {
	at := began.Add(after)
	return event.Hit{
		Timestamp: at.Add(2 * time.Millisecond),
		Event:     event.Meta{ID: q.label},
		User:      &event.User{ID: "61000"},
		Network:   event.Network{Type: q.family, Transport: q.transport},
		DNS:       &event.DNS{Question: event.Question{Name: fmt.Sprintf("t%d.%s.%s", at.UnixNano(), q.label, domain)}},
	}
}

// good is a hunt in which everything went well.
func good() *hunt {
	h := &hunt{
		backend: backend{name: "nft", own: true}, uid: 61000, full: true, ready: 40 * time.Millisecond,
		gate: "the gate is in place", memory: 30 << 20, stopped: 60 * time.Millisecond,
		first: sentQuery{ways[0], "n1", 100},
	}
	first := packet(h.first, 0)
	first.Process = &event.Process{PID: 100, EntityID: "100-1"}
	h.hits = append(h.hits, first)
	h.traces = append(h.traces, event.Trace{
		Timestamp: began.Add(3 * time.Millisecond), Process: *first.Process, Culprit: event.TraceDetail{AttachMS: 4},
	})
	for i, w := range ways {
		q := sentQuery{w, fmt.Sprintf("n%d", i+2), 101 + i}
		hit := packet(q, time.Duration(i)*time.Second)
		at, _ := sentAt(&hit)
		h.queries = append(h.queries, q)
		h.hits = append(h.hits, hit)
		h.traces = append(h.traces, event.Trace{
			Process: event.Process{PID: q.pid}, Culprit: event.TraceDetail{FromStart: true, AttachMS: float64(i + 1)},
		})
		p := event.Proof{Culprit: event.ProofDetail{Hit: event.Reference{ID: q.label}}}
		p.Event.ID = ulid.MustNew(ulid.Timestamp(at.Add(time.Second)), nil).String()
		h.proofs = append(h.proofs, p)
	}
	return h
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*hunt)
		check  string
		status Status
		found  string
	}{
		{"good", nil, "rules, nft, IPv4", OK, "2 of 2 packets matched (udp, tcp); ready after 40.0 ms; nothing left behind"},
		{"good", nil, "rules, nft, IPv6", OK, "2 of 2 packets"},
		{"good", nil, "hit latency", OK, "median 2.0 ms, at most 2.0 ms"},
		{"good", nil, "user", OK, "5 of 5"},
		{"good", nil, "attach", OK, "7.0 ms after its packet, 4.0 ms after finding it"},
		{"good", nil, "gate", OK, "4 of 4 programs traced from their start, held for a median of 3.0 ms, at most 4.0 ms"},
		{"good", nil, "proof", OK, "4 of 4 hits proven by the trace line that sent the packet, found a median of 1000 ms later"},
		{"good", nil, "losses", OK, "none"},
		{"good", nil, "stop", OK, "all straces gone after 60.0 ms"},
		{"good", nil, "memory", OK, "30.0 MiB"},
		{"nothing", func(h *hunt) { *h = hunt{full: true, err: errors.New("no namespace")} }, "hunt, ", Failed, "no namespace"},
		{"nothing", func(h *hunt) { *h = hunt{full: true} }, "iptables", Failed, "there is no iptables"},
		{"nothing", func(h *hunt) { *h = hunt{full: true} }, "memory", Skipped, ""},
		{"no legacy", func(h *hunt) { h.backend.absent = map[string]string{"ipv4": "none"} }, "rules, nft, IPv4", NotHere, "none"},
		{"no IPv6", func(h *hunt) { h.noIPv6 = "no IPv6" }, "rules, nft, IPv6", NotHere, "no IPv6"},
		{"packets over IPv6 do not match", func(h *hunt) { h.hits = h.hits[:3] }, "rules, nft, IPv6", Failed, "only 0 of 2 packets matched"},
		{"… but those over IPv4 do", func(h *hunt) { h.hits = h.hits[:3] }, "rules, nft, IPv4", OK, "2 of 2"},
		{"a rule stays", func(h *hunt) { h.leftover = map[string][]string{"ipv4": {"-A OUTPUT"}} }, "rules, nft, IPv4", Failed, "left behind: -A OUTPUT"},
		{"nobody can tell", func(h *hunt) { h.saveErr = map[string]error{"ipv4": errors.New("crash")} }, "rules, nft, IPv4", Failed, "cannot tell what is left behind: crash"},
		{"no user", func(h *hunt) { h.hits[1].User = nil }, "user", Failed, "only 4 of 5 hits"},
		{"wrong user", func(h *hunt) { h.hits[1].User.ID = "0" }, "user", Failed, "only 4 of 5 hits"},
		{"sender not found", func(h *hunt) { h.hits[0].Process = nil }, "attach", Failed, "was not found"},
		{"sender not traced", func(h *hunt) { h.traces = nil }, "attach", Failed, "strace did not attach to the first sender"},
		{"no gate", func(h *hunt) { h.gate = "no gate" }, "gate", Failed, "no gate"},
		{"gate silent", func(h *hunt) { h.gate = "" }, "gate", Failed, "no gate within"},
		{"interrupted after the first packet", func(h *hunt) { h.queries = nil }, "gate", Skipped, "no program was started"},
		{"one too late", func(h *hunt) { h.traces[2].Culprit.FromStart = false }, "gate", Failed, "only 3 of 4 programs"},
		{"one held for long", func(h *hunt) { h.traces[2].Culprit.AttachMS = 10_000 }, "gate", OK, "at most 10000 ms; longer than capture.gate_deadline"},
		{"one not proven", func(h *hunt) { h.proofs = h.proofs[1:] }, "proof", Failed, "only 3 of 4 hits"},
		{"one probable", func(h *hunt) { h.proofs[0].Culprit.Probable = true }, "proof", Failed, "only 3 of 4 hits"},
		{"loss", func(h *hunt) { h.losses = []event.Loss{event.NewLoss("hits", "", 3)} }, "losses", Failed, "hits (3)"},
		{"hangs", func(h *hunt) { h.stopErr = errors.New("killed") }, "stop", Failed, "killed"},
		{"strace stays", func(h *hunt) { h.straces = []int{7} }, "stop", Failed, "[7]"},
		{"victim", func(h *hunt) { h.stayed = "it has died" }, "stop", Failed, "it has died"},
	} {
		t.Run(tt.name+"/"+tt.check, func(t *testing.T) {
			h := good()
			if tt.change != nil {
				tt.change(h)
			}
			for _, c := range judge([]*hunt{h}) {
				if (c.Remedy == "") != (c.Status != Failed) {
					t.Errorf("%+v: what failed needs a remedy, nothing else does", c)
				}
				if c.Name == tt.check {
					if c.Status != tt.status || !strings.Contains(c.Found, tt.found) {
						t.Errorf("%+v, want %q, %q", c, tt.status, tt.found)
					}
					return
				}
			}
			t.Errorf("no check %q", tt.check)
		})
	}
}

func TestParseName(t *testing.T) {
	for name, want := range map[string]bool{
		"t1795394700123456789.n7." + domain: true,
		"n7." + domain:                      false,
		domain:                              false,
		"tx.n7." + domain:                   false,
		"t1795394700123456789.n7.other":     false,
		"":                                  false,
	} {
		sent, label, ok := parseName(name)
		if ok != want || ok && (label != "n7" || sent.UnixNano() != 1795394700123456789) {
			t.Errorf("%q: %v, %q, %t", name, sent, label, ok)
		}
	}
}

func TestDenyAnswersQueriesOnly(t *testing.T) {
	msg, err := query(began, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if deny(msg[:11]) {
		t.Error("half a header was answered")
	}
	if !deny(msg) || msg[2]&0x80 == 0 || msg[3]&0xf != 3 {
		t.Errorf("the answer is %x", msg)
	}
	if deny(msg) {
		t.Error("an answer was answered")
	}
}

func TestLeftIn(t *testing.T) {
	const empty = "# Generated by iptables-save\n*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [9:540]\nCOMMIT\n"
	const full = "*raw\n:OUTPUT ACCEPT [0:0]\n:CULPRIT - [0:0]\n-A OUTPUT -j CULPRIT\nCOMMIT\n"
	for _, tt := range []struct {
		saved, backend string
		want           int
	}{
		{"", "nft", 0},
		{"", "legacy", 0},
		{empty, "legacy", 0},
		{empty, "nft", 3}, // iptables-nft can remove its table again
		{full, "legacy", 2},
		{full, "nft", 4},
	} {
		if got := leftIn(tt.saved, tt.backend); len(got) != tt.want {
			t.Errorf("%s: %q, want %d lines", tt.backend, got, tt.want)
		}
	}
}

func TestPrettyName(t *testing.T) {
	for text, want := range map[string]string{
		"NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n": "Debian GNU/Linux 12 (bookworm)",
		"PRETTY_NAME='Alpine'": "Alpine",
		"ID=x\n":               "",
	} {
		if got := prettyName(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWorst(t *testing.T) {
	info, warn, end := "time=1 level=INFO msg=ready", "time=2 level=WARN msg=x", "culprit: find strace"
	if got := importantLines([]string{info, warn, info, end}); strings.Join(got, "|") != warn+"|"+end {
		t.Errorf("%q", got)
	}
	if got := importantLines([]string{"1 level=INFO ", "2 level=INFO ", info, info, info, info}); len(got) != 5 {
		t.Errorf("%q", got)
	}
	if got := importantLines(nil); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestUnusedUID(t *testing.T) {
	uid, err := unusedUID()
	if err != nil || uid < firstUID || uid > lastUID {
		t.Errorf("%d, %v", uid, err)
	}
}
