package story

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"culprit/internal/event"
)

// act is a call: by whom, from when to when in milliseconds, and what.
type act struct {
	tid        int
	from, to   float64
	text       string
	result     string // "": the line has no end
	unrecorded bool   // by a look-back
}

// A life of a program whose thread 813 asks while 812 waits for it, and which starts a process then, whose calls no
// look-back has.
func life(t *testing.T) []act {
	said := reply(t, 7, "x.badzone.test", "192.0.2.7")
	to := func(transport, port string) string {
		return "connect(4<" + transport + `:[17]>, {sa_family=AF_INET, sin_port=htons(` + port + `), sin_addr=inet_addr("192.0.2.7")}, 16)`
	}
	return []act{
		{812, -9, -8, `execve("/bin/job", ["job"], 0x1)`, "0", false},
		{812, -7, -6, "clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD)", "813", false},
		{812, -5, 4, `read(5<pipe:[9]>, "x", 1)`, "1", false}, // until the other thread has the answer
		{813, -4, -3, `openat(AT_FDCWD, "/etc/hosts", O_RDONLY)`, "3", false},
		{813, 0, 0.5, "sendto(" + udp + ", " + quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{})) + ", 32, 0, NULL, 0)", "32", false},
		{813, 1, 2, "recvfrom(" + udp + ", " + said + ", 2048, 0, NULL, NULL)", "48", false},
		{813, 2.1, 2.2, to("UDP", "0"), "0", false}, // getaddrinfo
		{813, 2.3, 2.4, to("UDP", "0"), "0", false},
		{813, 3, 3.5, "exit(0)", "?", false},
		{813, 3.5, 3.5, "+++ exited with 0 +++", "", false},
		{812, 5, 6, to("TCP", "443"), "-1 EINPROGRESS (Operation now in progress)", false},
		{812, 7, 7.5, `write(4<TCP:[10.0.0.1:5->192.0.2.7:443]>, "GET /", 5)`, "5", false},
		{812, 8, 8.5, `write(4<TCP:[10.0.0.1:5->192.0.2.7:443]>, "GET /", 5)`, "5", false},
		{812, 9, 9.5, "fork()", "900", false},
		{900, 9.6, 9.7, to("TCP", "80"), "0", true},
		{812, 10, 11, "connect(4<TCP:[18]>, {sa_family=AF_INET, sin_port=htons(81), sin_addr=inet_addr(\"192.0.2.7\")}, 16)", "? ERESTARTSYS (To be restarted if SA_RESTART is set)", false},
		{812, 12, 13, "connect(4<TCP:[18]>, {sa_family=AF_INET, sin_port=htons(81), sin_addr=inet_addr(\"192.0.2.7\")}, 16)", "-1 ECONNREFUSED (Connection refused)", false},
		{812, 14, 15, `unlink("/tmp/x")`, "0", false},
		{812, 16, 17, "exit_group(7)", "?", false},
		{812, 17, 17, "+++ exited with 7 +++", "", false},
	}
}

// backs are the lines of a look-back that goes on until a time: they have the time when a call returned.
func backs(life []act, until float64) (lines []string) {
	life = slices.Clone(life)
	slices.SortStableFunc(life, func(a, b act) int { return int((a.to - b.to) * 10) })
	for _, m := range life {
		switch {
		case m.to > until || m.unrecorded:
		case m.result == "":
			lines = append(lines, fmt.Sprintf("%d %v %s", m.tid, m.to, m.text))
		default:
			lines = append(lines, fmt.Sprintf("%d %v %s = %s", m.tid, m.to, m.text, m.result))
		}
	}
	return lines
}

// straces are the lines of a strace that was on the process at a time, and sees the calls that begin then: with the time when
// they began, in two lines if another thread's line came first.
func straces(life []act, from float64) (lines []string) {
	type part struct {
		at   float64
		text string
	}
	var parts []part
	for _, m := range life {
		end := fmt.Sprintf(" = %s <%.6f>", m.result, (m.to-m.from)/2000) // strace leaves out what it does itself
		switch {
		case m.from < from:
		case m.result == "": // whoever waits for it learns it a little later
			parts = append(parts, part{m.to + 0.3, fmt.Sprintf("%d %v %s", m.tid, m.to+0.3, m.text)})
		case m.result == "?":
			parts = append(parts, part{m.from, fmt.Sprintf("%d %v %s = ?", m.tid, m.from, m.text)})
		case slices.ContainsFunc(life, func(o act) bool { return o.from >= from && o.from > m.from && o.from < m.to }):
			name, args, _ := strings.Cut(m.text, "(")
			begin, rest, _ := strings.Cut(args, ", ")
			parts = append(parts, part{m.from, fmt.Sprintf("%d %v %s(%s,  <unfinished ...>", m.tid, m.from, name, begin)},
				part{m.to, fmt.Sprintf("%d %v <... %s resumed>%s%s", m.tid, m.to, name, rest, end)})
		default:
			parts = append(parts, part{m.from, fmt.Sprintf("%d %v %s%s", m.tid, m.from, m.text, end)})
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return int((a.at - b.at) * 10) })
	for _, p := range parts {
		lines = append(lines, p.text)
	}
	return lines
}

// Wherever a look-back ends, and strace's trace of the same process begins, the story is the same, as long as each call is in one
// of them; and each line that it names shows what is said.
func TestCut(t *testing.T) {
	t.Parallel()
	life := life(t)
	cuts := []float64{-10}
	for _, m := range life {
		cuts = append(cuts, m.from-0.01, m.from+0.01, m.to+0.01)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	want, n := "", 0
	for _, attach := range cuts {
		for _, until := range cuts {
			missing := slices.ContainsFunc(life, func(m act) bool { return m.from < attach && m.to > until })
			if missing || attach > 9 { // the child has a strace of its own
				continue
			}
			for _, proof := range []string{"", "B", "S"} {
				got := joined(t, backs(life, until), straces(life, attach), proof)
				if want == "" {
					want = got
				}
				if n++; got != want {
					t.Fatalf("strace from %v ms, look-back until %v ms, proof in %q:\n%s\nwant\n%s", attach, until, proof, got, want)
				}
			}
		}
	}
	for _, line := range []string{
		"tcp 192.0.2.7:443 EINPROGRESS 10 bytes", "tcp 192.0.2.7:80 0 bytes by a child", "tcp 192.0.2.7:81 ECONNREFUSED 0 bytes",
		"813 job: > asked 127.0.0.1:53 for x.badzone.test A", "812 job: started thread 813", `sent 10 B in 2 pieces to 192.0.2.7:443 beginning "GET /"`,
	} {
		if strings.Count(want, line) != 1 {
			t.Errorf("it does not say once %q:\n%s", line, want)
		}
	}
	if n < 1000 {
		t.Errorf("only %d cuts", n)
	}
}

// joined reads a look-back and a strace of the process 812, and writes what they tell with the calls that are named for it.
func joined(t *testing.T, back, strace []string, proof string) string {
	t.Helper()
	text := map[string][]string{"B": append([]string{""}, back...), "S": append([]string{""}, strace...)}
	h := asked("H", 7)
	h.Culprit.Proof = nil
	if i := slices.IndexFunc(text[proof], func(l string) bool { return strings.Contains(l, "sendto(") }); i > 0 {
		h.Culprit.Proof = &event.ProofDetail{Trace: event.Reference{ID: proof}, Line: int64(i + 1)}
	}
	b := event.Trace{Event: event.Meta{ID: "B"}, Process: event.Process{PID: 812}, Culprit: event.TraceDetail{LookBack: &event.LookBack{}}}
	s := event.Trace{Event: event.Meta{ID: "S"}, Process: event.Process{PID: 812}}
	told, err := Read(Of{Hits: []*event.Hit{h}, Traces: []Trace{{&b, opened(trace(back...))}, {&s, opened(trace(strace...))}}})
	if err != nil {
		t.Fatal(err)
	}
	// call names the call that a line shows.
	call := func(p Place) string {
		line := strings.Replace(text[p.Trace][p.Line-1], "<... ", "", 1)
		tid, line, _ := strings.Cut(line, " ")
		_, line, _ = strings.Cut(line, " ")
		return tid + " " + line[:min(len(line), 5)]
	}
	var out strings.Builder
	for _, st := range told.Steps {
		packet := ""
		if st.Packet {
			packet = "> "
		}
		fmt.Fprintf(&out, "%d %s: %s%s %s %s [", st.TID, st.Program, packet, st.What, st.Object, st.Note)
		for _, p := range st.Lines {
			fmt.Fprint(&out, call(p), ",")
		}
		out.WriteString("]\n")
	}
	a := told.Answers["H"]
	if a == nil {
		return out.String() + "no answer"
	}
	fmt.Fprintf(&out, "%s %v [%s]\n", a.Code, a.Addresses, call(a.Place))
	for _, c := range a.Connections {
		by := ""
		if c.Child {
			by = " by a child"
		}
		fmt.Fprintf(&out, "%s %s %s%d bytes%s [%s]\n", c.Transport, c.To, strings.TrimLeft(c.Error+" ", " "), c.Bytes, by, call(c.Place))
	}
	return out.String()
}
