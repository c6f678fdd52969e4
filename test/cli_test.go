package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
)

// An evidenceCase is what two hunted users have left: hits of two rules, two
// captures with a trace each.
type evidenceCase struct {
	*host
	d        *daemon
	a, b     uint32 // web1 and one without a name
	sa, sb   *sender
	ha, hb   event.Hit // the first of each
	ca, cb   event.Capture
	ta, tb   event.Trace
	between  time.Time // the hits of a are before it, that of b is after
	hitsOfA  int
	evidence []string // the flags that name it
}

func newEvidence(t *testing.T) *evidenceCase {
	h := newHost(t, "")
	e := &evidenceCase{host: h, a: newUID(), b: newUID(), hitsOfA: 3}
	h.Bind(t, "/etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nweb1:x:%d:%d::/:/bin/sh\n", e.a, e.a))
	e.d = h.hunt(longWindow + "rules: [{name: one, string: ZONEONE}, {name: two, domain: zonetwo.test}]\n")
	e.evidence = []string{"--evidence", e.d.evidence}
	e.sa, e.sb = h.sender(e.a), h.sender(e.b)
	for i := range e.hitsOfA {
		e.sa.ask(fmt.Sprintf("q%d.zoneone.test", i))
	}
	e.d.hit("q2.zoneone.test")
	e.ta = e.d.trace(e.sa.pid, "is there", nil)
	time.Sleep(2 * time.Millisecond) // --since goes by ids, which have milliseconds
	e.between = time.Now()
	time.Sleep(2 * time.Millisecond)
	e.sb.ask("q.zonetwo.test")
	e.d.hit("q.zonetwo.test")
	e.sb.stdin.Close()
	e.tb = e.d.trace(e.sb.pid, "has ended", ended)
	e.ca = e.d.capture(e.a, "is complete", func(c event.Capture) bool { return c.Culprit.Hits == 3 && c.Culprit.Traces == 1 })
	e.cb = e.d.capture(e.b, "is complete", func(c event.Capture) bool { return c.Culprit.Traces == 1 })
	e.ha, e.hb = e.d.hit("q0.zoneone.test"), e.d.hit("q.zonetwo.test")
	return e
}

// list runs a list command, as a table and as JSON, and returns the ids.
func (e *evidenceCase) list(t *testing.T, what string, flags ...string) (ids []string) {
	t.Helper()
	r := e.culprit(slices.Concat([]string{what}, e.evidence, flags)...)
	for i, line := range strings.Split(strings.TrimSuffix(r.must(t), "\n"), "\n") {
		if i == 0 {
			continue // the header
		}
		ids = append(ids, strings.Fields(line)[2]) // behind date and time
	}
	j := e.culprit(slices.Concat([]string{what, "--json"}, e.evidence, flags)...)
	var fromJSON []string
	for line := range strings.Lines(j.must(t)) {
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
	for _, h := range e.d.hits("--user", "web1") {
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
			{"--rule three", nil, nil, nil},
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
	e.d.stop()
	check("after the daemon")

	// What the tables tell people.
	for what, want := range map[string][]string{
		"hits":     {"TIME", "one", fmt.Sprintf("web1 (%d)", e.a), "udp 127.0.0.1:", "> 127.0.0.1:53", "q0.zoneone.test A", ca, fmt.Sprintf("%d python3 -I", e.sa.pid)},
		"captures": {"STARTED", "user", fmt.Sprintf("web1 (%d)", e.a), "ended: culprit was stopped"},
		"traces":   {"STARTED", fmt.Sprintf("%d python3 -I", e.sb.pid), "ended: the process ended with status 0", e.tb.File.Path, hitB},
	} {
		got := e.culprit(append([]string{what}, e.evidence...)...).must(t)
		for _, s := range want {
			if !strings.Contains(got, s) {
				t.Errorf("culprit %s does not say %q:\n%s", what, s, got)
			}
		}
	}
	// -c names the evidence too, and a bound that cuts is told.
	r := e.culprit("hits", "-c", e.d.config, "-n", "2")
	if r.must(t); strings.Count(r.out, "\n") != 3 || !strings.Contains(r.errors, "the last 2") {
		t.Errorf("culprit hits -c CONFIG -n 2 said\n%s%s", r.out, r.errors)
	}
	e.culprit("hits", "--evidence", e.dir).fails(t, 1, "no catalogue", e.dir)
}

func TestShow(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	e.d.stop()
	for _, c := range []struct {
		name, id string
		says     []string
	}{
		{"hit", e.ha.Event.ID, []string{
			"hit " + e.ha.Event.ID, "one", fmt.Sprintf("web1 (%d)", e.a), "udp", "127.0.0.1:53", "q0.zoneone.test IN A", "dns id " + e.ha.DNS.ID,
			"this process held the packet's socket", fmt.Sprint(e.sa.pid), fmt.Sprintf("of %d ", os.Getpid()),
			e.ca.Event.ID, e.ta.Event.ID, e.ta.File.Path, "zoneone.test", "00000000  45 ",
		}},
		{"capture", e.ca.Event.ID, []string{
			"capture " + e.ca.Event.ID, fmt.Sprintf("web1 (%d)", e.a), "every process of the user", "ended", "culprit was stopped",
			"3, the first " + e.ha.Event.ID, "q2.zoneone.test A", e.ta.Event.ID, e.ta.File.Path,
		}},
		{"trace", e.tb.Event.ID, []string{
			"trace " + e.tb.Event.ID, e.tb.File.Path, fmt.Sprint(e.b), fmt.Sprint(e.sb.pid), "exit status", "strace -f -ttt", "scan of /proc",
			e.cb.Event.ID, e.hb.Event.ID, "rule two", "q.zonetwo.test A",
		}},
	} {
		full := e.culprit("show", "--evidence", e.d.evidence, c.id).must(t)
		for _, s := range c.says {
			if !strings.Contains(full, s) {
				t.Errorf("culprit show does not say of the %s %q:\n%s", c.name, s, full)
			}
		}
		for _, id := range []string{c.id[14:], strings.ToLower(c.id)} {
			if got := e.culprit("show", "-c", e.d.config, id).must(t); got != full {
				t.Errorf("culprit show %s is not what it is for the whole id:\n%s", id, got)
			}
		}
		var doc struct{ Event struct{ ID string } }
		if err := json.Unmarshal([]byte(e.culprit("show", "--json", "--evidence", e.d.evidence, c.id).must(t)), &doc); err != nil || doc.Event.ID != c.id {
			t.Errorf("culprit show --json of the %s: %+v (%v)", c.name, doc, err)
		}
	}
	e.culprit("show", "--evidence", e.d.evidence, "01").fails(t, 1, "more than one")
	e.culprit("show", "--evidence", e.d.evidence, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ").fails(t, 1, "no hit, capture or trace")
	e.culprit("show", "--evidence", e.d.evidence, "../x").fails(t, 1, "not an id")
}

// Every machine-readable document has the fields that the event format promises.
func TestEventFormat(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	e.d.stop()
	for what, fields := range map[string][]string{
		"hits": {
			"@timestamp", "event.id", "event.kind=alert", "event.action=hit", "rule.name=two", fmt.Sprint("user.id=", e.b),
			"network.transport=udp", "network.type=ipv4", "source.ip=127.0.0.1", "source.port", "destination.ip=127.0.0.1", "destination.port=53",
			"dns.id=" + e.hb.DNS.ID, "dns.question.name=q.zonetwo.test", "dns.question.type=A",
			fmt.Sprint("process.pid=", e.sb.pid), "process.start", "process.executable", "process.command_line", "process.working_directory=/",
			fmt.Sprint("process.parent.pid=", os.Getpid()), "process.parent.command_line",
			"culprit.capture.id=" + e.cb.Event.ID, "culprit.origin.grade=socket", "culprit.count=1",
		},
		"captures": {
			"@timestamp", "event.id=" + e.cb.Event.ID, "event.kind=event", "event.action=capture", fmt.Sprint("user.id=", e.b),
			"culprit.level=1", "culprit.hits=1", "culprit.traces=1", "culprit.state=ended", "culprit.ended_because.code=stopped",
		},
		"traces": {
			"@timestamp", "event.id=" + e.tb.Event.ID, "event.kind=event", "event.action=trace", fmt.Sprint("user.id=", e.b),
			fmt.Sprint("process.pid=", e.sb.pid), "process.start", "process.executable", "process.command_line", "process.exit_code=0",
			"file.path=" + e.tb.File.Path, "file.size", "culprit.capture.id=" + e.cb.Event.ID, "culprit.hit.id=" + e.hb.Event.ID,
			"culprit.found_by=scan", "culprit.attach_ms",
		},
	} {
		docs := list[map[string]any](e.d, what, "--user", fmt.Sprint(e.b))
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

// What rules print prints is what rules install does.
func TestRulesPrint(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		config, _ := h.configure(`
rules:
  - {name: one, string: "it's \"BAD\" $ZONE\\"}
  - {name: two, domain: badzone.test, ports: [53, 5353], protocols: [udp]}
  - {name: three, hex: "|0a|evil", to: [192.0.2.0/24, "2001:db8::/32"], families: [ipv4, ipv6]}
  - {name: four, string: x, families: [ipv6]}
firewall: {table: mangle, chain: MINE}
`)
		other := newHost(t, h.backend)
		for _, h := range []*host{h, other} {
			// Where rules install makes the table, it notes that to remove it again.
			for _, tool := range []string{"iptables", "ip6tables"} {
				h.Must(t, tool, "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "--dport", "9", "-j", "DROP")
			}
		}
		before := h.firewall()
		printed := h.culprit("rules", "print", "-c", config).must(t)
		h.unchanged(before, "after rules print")
		h.culprit("rules", "install", "-c", config).must(t)
		installed := h.firewall()

		for line := range strings.Lines(printed) {
			other.Must(t, "sh", "-c", line)
		}
		if got := other.firewall(); got != installed {
			t.Errorf("the printed commands make\n%s\nrules install makes\n%s", got, installed)
		}
		// What was made by hand is ours all the same.
		other.culprit("rules", "status", "-c", config).must(t)
		other.culprit("rules", "remove", "--chain", "MINE").must(t)
		other.unchanged(before, "after rules remove")
	})
}

func TestRulesByHand(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		config, _ := h.configure("")
		h.Must(t, "iptables", "-A", "OUTPUT", "-p", "udp", "--dport", "9", "-j", "DROP")
		before := h.firewall()
		h.culprit("rules", "status", "-c", config).fails(t, 1, "not all in place")
		h.culprit("rules", "install", "-c", config).must(t)
		installed := h.firewall()
		h.culprit("rules", "install", "-c", config).must(t)
		h.unchanged(installed, "after a second install")
		h.Must(t, programs.offenderC, "-n", "x.badzone.test", "-c", "3")
		h.Must(t, programs.offenderC, "-n", "x.badzone.test", "-s", "::1", "-t", "-w")
		got := h.culprit("rules", "status", "-c", config).must(t)
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
		if !strings.Contains(got, h.backend) || !strings.Contains(got, "raw") {
			t.Errorf("rules status should name the backend %s and the table raw:\n%s", h.backend, got)
		}
		r := h.culprit("rules", "remove")
		if r.must(t); r.out != "removed 2 chains named CULPRIT\n" {
			t.Errorf("rules remove said %s", r.out)
		}
		h.unchanged(before, "after rules remove")
		if got := h.culprit("rules", "remove").must(t); got != "removed 0 chains named CULPRIT\n" {
			t.Errorf("a second rules remove said %s", got)
		}
	})
}

// What a killed daemon leaves goes by hand, too.
func TestRulesOfTheKilled(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		d := h.hunt("")
		d.cmd.Process.Kill()
		d.wait()
		h.culprit("rules", "remove").must(t)
		h.unchanged(before, "after rules remove")
	})
}

func TestCheckAndDoctor(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	before := h.firewall()
	config, _ := h.configure("rules: [{name: a, string: bad.zone}, {name: b, domain: bad.zone}]\n")
	r := h.culprit("check", "-c", config)
	if r.must(t); !strings.Contains(r.out, "is good: 2 rules") || !strings.Contains(r.errors, "use domain: bad.zone") {
		t.Errorf("culprit check said\n%s%s", r.out, r.errors)
	}
	h.culprit("check", "-c", "../config.example.yaml").must(t)
	doctor := exec.Command(programs.culprit, "doctor", "-c", config)
	got := h.command(doctor).must(t)
	for _, want := range []string{"iptables", "ip6tables", "xt_string", "NFLOG", "group 5353 is free", "strace", "proc connector", "inet_diag", "ptrace", "evidence directory"} {
		if !strings.Contains(got, want) {
			t.Errorf("culprit doctor does not say %q:\n%s", want, got)
		}
	}
	h.unchanged(before, "after culprit doctor")
	d := h.huntWith(config, filepath.Join(h.dir, "x"))
	if got := h.command(exec.Command(programs.culprit, "doctor", "-c", config)); !strings.Contains(got.out, fmt.Sprint(d.pid)) {
		t.Errorf("culprit doctor does not name who holds the group, %d:\n%s", d.pid, got.out)
	}
	d.stop()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	for _, c := range []struct {
		args string
		code int
	}{
		{"version", 0},
		{"--help", 0},
		{"run --help", 0},
		{"--bogus", 2},
		{"run --bogus", 2},
		{"hits --bogus", 2},
		{"hits extra", 2},
		{"hits --since yesterday", 2},
		{"hits --user no-such-user", 2},
		{"hits -n -1", 2},
		{"hits -c x --evidence y", 2},
		{"show", 2},
		{"show a b", 2},
		{"rules", 2},
		{"rules bogus", 2},
		{"rules print extra", 2},
		{"version extra", 2},
		{"bogus", 2},
	} {
		t.Run(c.args, func(t *testing.T) {
			h.t = t
			r := h.culprit(strings.Fields(c.args)...)
			if r.code != c.code {
				t.Errorf("exit status %d, want %d; it said:\n%s%s", r.code, c.code, r.out, r.errors)
			}
			if c.code == 2 && (r.out != "" || strings.Count(r.errors, "\n") != 1) {
				t.Errorf("want one line on standard error; it said:\n%s%s", r.out, r.errors)
			}
		})
	}
	h.t = t
	if got := h.culprit("version").must(t); !strings.HasPrefix(got, "culprit ") {
		t.Errorf("culprit version said %s", got)
	}
}
