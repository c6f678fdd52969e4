package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// An evidenceCase is what two hunted users have left: hits of two rules, two
// captures with a trace each.
type evidenceCase struct {
	*harness.Host
	d        *harness.Daemon
	a, b     uint32 // web1 and one without a name
	sa, sb   *harness.Sender
	ha, hb   event.Hit // the first of each
	ca, cb   event.Capture
	ta, tb   event.Trace
	between  time.Time // the hits of a are before it, that of b is after
	hitsOfA  int
	evidence []string // the flags that name it
}

func newEvidence(t *testing.T) *evidenceCase {
	h := harness.NewHost(t, "")
	e := &evidenceCase{Host: h, a: harness.NewUID(), b: harness.NewUID(), hitsOfA: 3}
	h.Bind(t, "/etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nweb1:x:%d:%d::/:/bin/sh\n", e.a, e.a))
	e.d = h.Hunt(harness.LongWindow + "rules: [{name: one, string: ZONEONE}, {name: two, domain: zonetwo.test}]\n")
	e.evidence = []string{"--evidence", e.d.Evidence}
	e.sa, e.sb = h.Sender(e.a), h.Sender(e.b)
	for i := range e.hitsOfA {
		e.sa.Ask(fmt.Sprintf("q%d.zoneone.test", i))
	}
	e.d.Hit("q2.zoneone.test")
	e.ta = e.d.Trace(e.sa.PID, "is there", nil)
	time.Sleep(2 * time.Millisecond) // --since goes by ids, which have milliseconds
	e.between = time.Now()
	time.Sleep(2 * time.Millisecond)
	e.sb.Ask("q.zonetwo.test")
	e.d.Hit("q.zonetwo.test")
	e.sb.Stdin.Close()
	e.tb = e.d.Trace(e.sb.PID, "has ended", harness.Ended)
	e.ca = e.d.Capture(e.a, "is complete", func(c event.Capture) bool { return c.Culprit.Hits == 3 && c.Culprit.Traces == 1 })
	e.cb = e.d.Capture(e.b, "is complete", func(c event.Capture) bool { return c.Culprit.Traces == 1 })
	e.ha, e.hb = e.d.Hit("q0.zoneone.test"), e.d.Hit("q.zonetwo.test")
	return e
}

// list runs a list command, as a table and as JSON, and returns the ids.
func (e *evidenceCase) list(t *testing.T, what string, flags ...string) (ids []string) {
	t.Helper()
	r := e.Culprit(slices.Concat([]string{what}, e.evidence, flags)...)
	for i, line := range strings.Split(strings.TrimSuffix(r.Must(t), "\n"), "\n") {
		if i == 0 {
			continue // the header
		}
		ids = append(ids, strings.Fields(line)[2]) // behind date and time
	}
	j := e.Culprit(slices.Concat([]string{what, "--json"}, e.evidence, flags)...)
	var fromJSON []string
	for line := range strings.Lines(j.Must(t)) {
		var doc struct{ Event struct{ ID string } }
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		fromJSON = append(fromJSON, doc.Event.ID)
	}
	if !slices.Equal(ids, fromJSON) {
		t.Errorf("culprit %s %v lists %v, with --json %v", what, flags, ids, fromJSON)
	}
	return ids
}

func TestLists(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	var hitsA []string
	for _, h := range e.d.Hits("--user", "web1") {
		hitsA = append(hitsA, h.Event.ID)
	}
	if len(hitsA) != e.hitsOfA {
		t.Fatalf("hits of web1: %v, want %d", hitsA, e.hitsOfA)
	}
	hitB := e.hb.Event.ID
	allHits := append(slices.Clone(hitsA), hitB)
	ca, cb, ta, tb := e.ca.Event.ID, e.cb.Event.ID, e.ta.Event.ID, e.tb.Event.ID
	check := func(when string) {
		t.Helper()
		for _, c := range []struct {
			flags                  string
			hits, captures, traces []string
		}{
			{"", allHits, []string{ca, cb}, []string{ta, tb}},
			{"--user web1", hitsA, []string{ca}, []string{ta}},
			{fmt.Sprint("--user ", e.b), []string{hitB}, []string{cb}, []string{tb}},
			{"--rule one", hitsA, []string{ca}, []string{ta}},
			{"--rule two", []string{hitB}, []string{cb}, []string{tb}},
			{"--capture " + strings.ToLower(cb), []string{hitB}, []string{cb}, []string{tb}},
			{"--since 10m", allHits, []string{ca, cb}, []string{ta, tb}},
			{"--since " + e.between.Format(time.RFC3339Nano), []string{hitB}, []string{cb}, []string{tb}},
			{"--since " + time.Now().Add(24*time.Hour).Format("2006-01-02"), nil, nil, nil},
			{"-n 1", []string{hitB}, []string{cb}, []string{tb}},
			{"--number 0", allHits, []string{ca, cb}, []string{ta, tb}},
			{"--rule one --user web1 --since 1h -n 2", hitsA[1:], []string{ca}, []string{ta}},
		} {
			flags := strings.Fields(c.flags)
			for what, want := range map[string][]string{"hits": c.hits, "captures": c.captures, "traces": c.traces} {
				if got := e.list(t, what, flags...); !slices.Equal(got, want) {
					t.Errorf("%s, culprit %s %s: %v, want %v", when, what, c.flags, got, want)
				}
			}
		}
	}
	check("while the daemon runs")
	e.d.Stop()
	check("after the daemon")

	// What the tables tell people.
	for what, want := range map[string][]string{
		"hits":     {"TIME", "one", fmt.Sprintf("web1 (%d)", e.a), "udp 127.0.0.1:", "> 127.0.0.1:53", "q0.zoneone.test A", ca, fmt.Sprintf("%d python3 -I", e.sa.PID)},
		"captures": {"STARTED", "user", fmt.Sprintf("web1 (%d)", e.a), "ended: culprit was stopped"},
		"traces":   {"STARTED", fmt.Sprintf("%d python3 -I", e.sb.PID), "ended: the process ended with status 0", e.tb.File.Path, hitB},
	} {
		got := e.Culprit(append([]string{what}, e.evidence...)...).Must(t)
		for _, s := range want {
			if !strings.Contains(got, s) {
				t.Errorf("culprit %s does not say %q:\n%s", what, s, got)
			}
		}
	}
	// -c names the evidence too, and a bound that cuts is told.
	r := e.Culprit("hits", "-c", e.d.Config, "-n", "2")
	if r.Must(t); strings.Count(r.Out, "\n") != 3 || !strings.Contains(r.Errors, "the last 2") {
		t.Errorf("culprit hits -c CONFIG -n 2 said\n%s%s", r.Out, r.Errors)
	}
	e.Culprit("hits", "--evidence", e.Dir).Fails(t, 1, "no catalogue", e.Dir)
	for _, what := range []string{"hits", "captures", "traces"} {
		e.Culprit(append([]string{what, "--rule", "three"}, e.evidence...)...).Fails(t, 1, `no rule "three"`, "one, two")
	}
	e.Culprit("hits", "-c", "/nonexistent").Fails(t, 2, "/nonexistent", "no such file", "config.example.yaml")
}

func TestShow(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	e.d.Stop()
	for _, c := range []struct {
		name, id string
		says     []string
	}{
		{"hit", e.ha.Event.ID, []string{
			"hit " + e.ha.Event.ID, "one", fmt.Sprintf("web1 (%d)", e.a), "udp", "127.0.0.1:53", "q0.zoneone.test IN A", "dns id " + e.ha.DNS.ID,
			"the kernel saw", fmt.Sprint(e.sa.PID), fmt.Sprintf("of %d ", os.Getpid()),
			e.ca.Event.ID, e.ta.Event.ID, e.ta.File.Path, "zoneone.test", "00000000  45 ",
		}},
		{"capture", e.ca.Event.ID, []string{
			"capture " + e.ca.Event.ID, fmt.Sprintf("web1 (%d)", e.a), "every process of the user", "ended", "culprit was stopped",
			"3, the first " + e.ha.Event.ID, "q2.zoneone.test A", e.ta.Event.ID, e.ta.File.Path,
		}},
		{"trace", e.tb.Event.ID, []string{
			"trace " + e.tb.Event.ID, e.tb.File.Path, fmt.Sprint(e.b), fmt.Sprint(e.sb.PID), "exit status", "strace -f -ttt", "when it sent the packet",
			e.cb.Event.ID, e.hb.Event.ID, "rule two", "q.zonetwo.test A",
		}},
	} {
		full := e.Culprit("show", "--evidence", e.d.Evidence, c.id).Must(t)
		for _, s := range c.says {
			if !strings.Contains(full, s) {
				t.Errorf("culprit show does not say of the %s %q:\n%s", c.name, s, full)
			}
		}
		for _, id := range []string{c.id[14:], strings.ToLower(c.id)} {
			if got := e.Culprit("show", "-c", e.d.Config, id).Must(t); got != full {
				t.Errorf("culprit show %s is not what it is for the whole id:\n%s", id, got)
			}
		}
		var doc struct{ Event struct{ ID string } }
		if err := json.Unmarshal([]byte(e.Culprit("show", "--json", "--evidence", e.d.Evidence, c.id).Must(t)), &doc); err != nil || doc.Event.ID != c.id {
			t.Errorf("culprit show --json of the %s: %+v (%v)", c.name, doc, err)
		}
	}
	e.Culprit("show", "--evidence", e.d.Evidence, "01").Fails(t, 1, "more than one")
	e.Culprit("show", "--evidence", e.d.Evidence, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ").Fails(t, 1, "no hit, capture, trace or snapshot")
	e.Culprit("show", "--evidence", e.d.Evidence, "../x").Fails(t, 1, "not an id")
}

// Every machine-readable document has the fields that the event format promises.
func TestEventFormat(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	e.d.Stop()
	for what, fields := range map[string][]string{
		"hits": {
			"@timestamp", "event.id", "event.kind=alert", "event.action=hit", "rule.name=two", fmt.Sprint("user.id=", e.b),
			"network.transport=udp", "network.type=ipv4", "source.ip=127.0.0.1", "source.port", "destination.ip=127.0.0.1", "destination.port=53",
			"dns.id=" + e.hb.DNS.ID, "dns.question.name=q.zonetwo.test", "dns.question.type=A",
			fmt.Sprint("process.pid=", e.sb.PID), "process.start", "process.executable", "process.command_line", "process.working_directory=/",
			fmt.Sprint("process.parent.pid=", os.Getpid()), "process.parent.command_line",
			"culprit.capture.id=" + e.cb.Event.ID, "culprit.origin.grade", "culprit.sent.tid", "culprit.sent.syscall=sendto", fmt.Sprint("culprit.sent.user.id=", e.b), "culprit.count=1",
		},
		"captures": {
			"@timestamp", "event.id=" + e.cb.Event.ID, "event.kind=event", "event.action=capture", fmt.Sprint("user.id=", e.b),
			"culprit.level=1", "culprit.hits=1", "culprit.traces=1", "culprit.state=ended", "culprit.ended_because.code=stopped",
		},
		"traces": {
			"@timestamp", "event.id=" + e.tb.Event.ID, "event.kind=event", "event.action=trace", fmt.Sprint("user.id=", e.b),
			fmt.Sprint("process.pid=", e.sb.PID), "process.start", "process.executable", "process.command_line", "process.exit_code=0",
			"file.path=" + e.tb.File.Path, "file.size", "culprit.capture.id=" + e.cb.Event.ID, "culprit.hit.id=" + e.hb.Event.ID,
			"culprit.found_by=packet", "culprit.from_packet=true", "culprit.attach_ms",
		},
	} {
		docs := harness.List[map[string]any](e.d, what, "--user", fmt.Sprint(e.b))
		if len(docs) != 1 {
			t.Fatalf("culprit %s has %d documents, want 1", what, len(docs))
		}
		for _, field := range fields {
			path, want, _ := strings.Cut(field, "=")
			var v any = docs[0]
			for key := range strings.SplitSeq(path, ".") {
				m, _ := v.(map[string]any)
				v = m[key]
			}
			if v == nil || want != "" && fmt.Sprint(v) != want {
				t.Errorf("culprit %s --json: %s is %v, want %s", what, path, v, want)
			}
		}
	}
	if id := e.hb.Event.ID; len(id) != 26 {
		t.Errorf("the id %q is not a ULID", id)
	}
}
