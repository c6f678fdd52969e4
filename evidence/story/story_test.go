package story

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"culprit/internal/event"
	"culprit/internal/strace"
)

const sentAt = 1_700_000_000

// asked is a hit of the process 812 that asks for the A record of x.badzone.test.
func asked(id string, number int) *event.Hit {
	h := &event.Hit{
		Timestamp: time.Unix(sentAt, 0), Event: event.Meta{ID: id}, Process: &event.Process{PID: 812, EntityID: "812-1"},
		DNS:         &event.DNS{ID: fmt.Sprint(number), Question: event.Question{Name: "x.badzone.test", Type: "A", Class: "IN"}},
		Destination: event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53},
	}
	h.Culprit.Sent = &event.Sent{Timestamp: h.Timestamp, TID: 812}
	return h
}

// message is a question with that id for a name, or the answer to it.
func message(t testing.TB, id uint16, name string, header dnsmessage.Header, answers ...string) []byte {
	t.Helper()
	header.ID = id
	n := dnsmessage.MustNewName(name + ".")
	m := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for _, a := range answers {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply is an answer.
func reply(t testing.TB, id uint16, name string, answers ...string) string {
	return quoted(message(t, id, name, dnsmessage.Header{Response: true}, answers...))
}

func quoted(b []byte) string { return string(strace.AppendQuoted(nil, b, false)) }

// trace makes lines of "TID MILLISECONDS CALL", the time from the packet on.
func trace(lines ...string) string {
	var b strings.Builder
	b.WriteString("# culprit trace: T\n")
	for _, l := range lines {
		var tid int
		var ms float64
		fmt.Sscan(l, &tid, &ms)
		_, call, _ := strings.Cut(l, " ")
		_, call, _ = strings.Cut(call, " ")
		fmt.Fprintf(&b, "%-5d %.6f %s\n", tid, sentAt+ms/1000, call)
	}
	return b.String()
}

func read(t testing.TB, text string, tr event.Trace, hits ...*event.Hit) *Story {
	t.Helper()
	s, err := Read(Of{Hits: hits, Traces: []Trace{{&tr, opened(text)}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opened(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// told writes an answer briefly.
func told(a *Answer) string {
	if a == nil {
		return "none"
	}
	s := fmt.Sprintf("%s %v from %s, line %d", a.Code, a.Addresses, a.From, a.Line)
	for _, c := range a.Connections {
		s += fmt.Sprintf("; %s %s %s%d bytes, line %d", c.Transport, c.To, strings.TrimLeft(c.Error+" ", " "), c.Bytes, c.Line)
		if c.Child {
			s += " by a child"
		}
		if len(c.Also) > 0 {
			s += fmt.Sprintf(" or %v", c.Also)
		}
	}
	return s
}

const (
	udp     = "3<UDP:[127.0.0.1:4000->127.0.0.1:53]>"
	connect = `812 5 connect(4<TCP:[17]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")}, 16) = `
)

// An answer is joined with the packet by process, id and question, and connections with it by address.
func TestAnswers(t *testing.T) {
	t.Parallel()
	a := reply(t, 7, "X.badzone.test", "192.0.2.7")
	recv := func(tid int, ms float64, data string) string {
		return fmt.Sprintf("%d %v recvfrom(%s, %s, 2048, 0, NULL, NULL) = 48 <0.000100>", tid, ms, udp, data)
	}
	failed := quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{Response: true, RCode: dnsmessage.RCodeServerFailure}))
	missing := quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{Response: true, RCode: dnsmessage.RCodeNameError}))
	truncated := quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{Response: true, Truncated: true}))
	stream := message(t, 7, "x.badzone.test", dnsmessage.Header{Response: true}, "192.0.2.7")
	stream = append([]byte{0, byte(len(stream))}, stream...)
	const good = "NOERROR [192.0.2.7] from 127.0.0.1:53, line "
	for name, tt := range map[string]struct {
		lines []string
		want  string
	}{
		"recvfrom":                   {[]string{recv(812, 1, a)}, good + "2"},
		"recvfrom, unconnected":      {[]string{"812 1 recvfrom(3<UDP:[0.0.0.0:4000]>, " + a + `, 2048, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, [16]) = 48 <0.000100>`}, good + "2"},
		"recvfrom, by a look-back":   {[]string{"812 1 recvfrom(3<UDP:[0.0.0.0:4000]>, " + a + ", 2048, 0, 0x7ffe, 0x7fff) = 48"}, "NOERROR [192.0.2.7] from invalid AddrPort, line 2"},
		"recvmsg":                    {[]string{"812 1 recvmsg(" + udp + `, {msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, msg_namelen=16, msg_iov=[{iov_base=` + a + ", iov_len=4096}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 48 <0.1>"}, good + "2"},
		"recvmmsg":                   {[]string{"812 1 recvmmsg(" + udp + ", [{msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=" + a + ", iov_len=512}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, msg_len=48}], 1, 0, NULL) = 1 <0.1>"}, good + "2"},
		"read":                       {[]string{"812 1 read(" + udp + ", " + a + ", 512) = 48 <0.1>"}, good + "2"},
		"two lines":                  {[]string{"812 1 recvfrom(" + udp + ",  <unfinished ...>", "813 1 close(3) = 0", "812 2 <... recvfrom resumed>" + a + ", 2048, 0, NULL, NULL) = 48 <0.001000>"}, good + "4"},
		"TCP, in pieces":             {[]string{"812 1 read(3<TCP:[127.0.0.1:4000->127.0.0.1:53]>, " + quoted(stream[:2]) + ", 2) = 2 <0.1>", "812 1 read(3<TCP:[127.0.0.1:4000->127.0.0.1:53]>, " + quoted(stream[2:]) + ", 48) = 48 <0.1>"}, good + "3"},
		"nothing":                    {nil, "none"},
		"another id":                 {[]string{recv(812, 1, reply(t, 8, "x.badzone.test", "192.0.2.7"))}, "none"},
		"another name":               {[]string{recv(812, 1, reply(t, 7, "y.badzone.test", "192.0.2.7"))}, "none"},
		"before the packet":          {[]string{recv(812, -50, a)}, "none"},
		"another process":            {[]string{"812 0 fork() = 900", recv(900, 1, a)}, "none"},
		"a thread of before":         {[]string{recv(813, 1, a)}, good + "2"},
		"a thread":                   {[]string{"812 0 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD) = 813", recv(813, 1, a)}, good + "3"},
		"from a file":                {[]string{"812 1 read(3</tmp/UDP:[127.0.0.1:4000->127.0.0.1:53]>, " + a + ", 512) = 48 <0.1>"}, "none"},
		"from a service":             {[]string{"812 1 read(3<TCP:[127.0.0.1:4000->127.0.0.1:80]>, " + quoted(stream) + ", 512) = 50 <0.1>"}, "none"},
		"a question":                 {[]string{recv(812, 1, quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{})))}, "none"},
		"no such name":               {[]string{recv(812, 1, missing), connect + "0"}, "NXDOMAIN [] from 127.0.0.1:53, line 2"},
		"the second server can":      {[]string{recv(812, 1, failed), recv(812, 2, a)}, good + "3"},
		"the first answer counts":    {[]string{recv(812, 1, a), recv(812, 2, reply(t, 7, "x.badzone.test", "192.0.2.8"))}, good + "2"},
		"again over TCP":             {[]string{recv(812, 1, truncated)}, "NOERROR [] from 127.0.0.1:53, line 2"},
		"connected":                  {[]string{recv(812, 1, a), connect + "0 <0.1>"}, good + "2; tcp 192.0.2.7:443 0 bytes, line 3"},
		"refused":                    {[]string{recv(812, 1, a), connect + "-1 ECONNREFUSED (Connection refused)"}, good + "2; tcp 192.0.2.7:443 ECONNREFUSED 0 bytes, line 3"},
		"connected later, and sent":  {[]string{recv(812, 1, a), connect + "-1 EINPROGRESS (Operation now in progress)", `812 6 write(4<TCP:[10.0.0.1:5->192.0.2.7:443]>, "hello", 5) = 5`}, good + "2; tcp 192.0.2.7:443 EINPROGRESS 5 bytes, line 3"},
		"connected before":           {[]string{strings.Replace(connect, "812 5", "812 -5", 1) + "0", recv(812, 1, a)}, good + "3"},
		"connected to another":       {[]string{recv(812, 1, a), strings.Replace(connect, "2.7", "2.8", 1) + "0"}, good + "2"},
		"connected by a child":       {[]string{recv(812, 1, a), "812 2 fork() = 900", strings.Replace(connect, "812", "900", 1) + "0"}, good + "2; tcp 192.0.2.7:443 0 bytes, line 4 by a child"},
		"connected by a stranger":    {[]string{"811 0 fork() = 812", "811 0 fork() = 900", recv(812, 1, a), strings.Replace(connect, "812", "900", 1) + "0"}, good + "4"},
		"too late":                   {[]string{recv(812, 1, a), strings.Replace(connect, "812 5", "812 31000", 1) + "0"}, good + "2"},
		"datagrams":                  {[]string{recv(812, 1, a), `812 2 sendto(5<UDP:[0.0.0.0:9]>, "hello", 5, 0, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")}, 16) = 5`}, good + "2; udp 192.0.2.7:443 5 bytes, line 3"},
		"told for two names":         {[]string{recv(812, -9, reply(t, 1, "good.example", "192.0.2.7")), recv(812, 1, a), connect + "0"}, good + "3; tcp 192.0.2.7:443 0 bytes, line 4 or [good.example]"},
		"the resolver is the answer": {[]string{recv(812, 1, reply(t, 7, "x.badzone.test", "127.0.0.1")), "812 2 connect(4<UDP:[17]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = 0"}, "NOERROR [127.0.0.1] from 127.0.0.1:53, line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := 812
			if len(tt.lines) > 0 && strings.HasPrefix(tt.lines[0], "811") { // its parent is traced
				of = 811
			}
			s := read(t, trace(tt.lines...), event.Trace{Process: event.Process{PID: of}}, asked("H", 7))
			if got := told(s.Answers["H"]); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A connection is said of the latest lookup of a name, not of all.
func TestLatest(t *testing.T) {
	t.Parallel()
	h1, h2 := asked("H1", 7), asked("H2", 8)
	s := read(t, trace(
		"812 1 read("+udp+", "+reply(t, 7, "x.badzone.test", "192.0.2.7")+", 512) = 48 <0.0>",
		"812 2 read("+udp+", "+reply(t, 8, "x.badzone.test", "192.0.2.7")+", 512) = 48 <0.0>",
		connect+"0"), event.Trace{Process: event.Process{PID: 812}}, h1, h2)
	if a, b := s.Answers["H1"], s.Answers["H2"]; a == nil || b == nil || len(a.Connections) != 0 || len(b.Connections) != 1 {
		t.Errorf("%s and %s", told(a), told(b))
	}
}

// The steps of a look-back and of strace's lines are those of the sender and of what started it.
func TestSteps(t *testing.T) {
	t.Parallel()
	h := asked("H", 7)
	h.Culprit.Proof = &event.ProofDetail{Trace: event.Reference{ID: "T"}, Line: 15}
	lines := []string{
		"811 -20 setuid(4242) = 0",
		`811 -19 execve("/bin/sh", ["sh", "-c", "./job"], 0x1 /* 9 vars */) = 0 <0.1>`,
		`811 -18 openat(AT_FDCWD, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3`,
		"811 -17 vfork( <unfinished ...>",
		`812 -16 execve("/bin/job", ["job", "-v"], 0x1) = 0 <0.1>`,
		"811 -15 <... vfork resumed>) = 812 <0.002>",
		`812 -14 openat(AT_FDCWD</>, "/etc/job \"O_WRONLY\"", O_RDONLY) = 3</etc/job>`,
		`812 -13 openat(AT_FDCWD</>, "/etc/other", O_RDONLY) = -1 ENOENT (No such file or directory)`,
		`812 -12 openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY) = 3</etc/hosts>`,
		`812 -11 openat(AT_FDCWD</>, "/tmp/x", O_WRONLY|O_CREAT, 0600) = 3</tmp/x>`,
		`812 -10 fchmodat(AT_FDCWD, "/tmp/x", 0755) = 0`,
		`812 -9 rename("/tmp/x", "/tmp/y") = 0`,
		`812 -8 unlink("/tmp/y") = 0`,
		"812 0 sendto(" + udp + ", " + quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{})) + ", 32, 0, NULL, 0) = 32 <0.0>",
		"812 1 recvfrom(" + udp + ", " + reply(t, 7, "x.badzone.test", "192.0.2.7") + ", 2048, 0, NULL, NULL) = 48 <0.0>",
		`900 2 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3`, // a thread of 811
		connect + "-1 EINPROGRESS (Operation now in progress)",
		`812 6 write(4<TCP:[10.0.0.1:5->192.0.2.7:443]>, "GET /", 5) = 5 <0.0>`,
		`812 7 write(4<TCP:[10.0.0.1:5->192.0.2.7:443]>, "more", 4) = 4 <0.0>`,
		"812 8 +++ killed by SIGKILL +++",
		`811 9 openat(AT_FDCWD, "/etc/later", O_RDONLY) = 3`,
		"811 10 +++ exited with 0 +++",
	}
	want := strings.TrimSpace(`
2 -20ms 811 : changed its user to 4242 (setuid)
3 -19ms 811 sh: became sh -c ./job (/bin/sh)
7 -17ms 811 sh: started process 812
6 -16ms 812 job: became job -v (/bin/job)
8,10 -14ms 812 job: opened /etc/job "O_WRONLY", /etc/hosts
11 -11ms 812 job: opened to write /tmp/x
12 -10ms 812 job: changed the mode of /tmp/x to 0755
13 -9ms 812 job: renamed /tmp/x to /tmp/y
14 -8ms 812 job: removed /tmp/y
15 0s 812 job: > asked 127.0.0.1:53 for x.badzone.test A
16 1ms 812 job: was told by 127.0.0.1:53 that x.badzone.test is 192.0.2.7
18 5ms 812 job: began to connect to 192.0.2.7:443
19,20 6ms 812 job: sent 9 B in 2 pieces to 192.0.2.7:443 beginning "GET /"
21 8ms 812 job: killed by SIGKILL`)
	back := event.TraceDetail{LookBack: &event.LookBack{Parents: []event.Process{{PID: 811}}}}
	for name, detail := range map[string]event.TraceDetail{"strace": {}, "look-back": back} {
		text := lines
		if detail.LookBack != nil { // it has no strangers, and of parents only what was before
			text = nil
			for _, l := range lines[:20] {
				if strings.HasPrefix(l, "900") {
					l = "812 2 close(9) = 0"
				}
				text = append(text, l)
			}
		}
		tr := event.Trace{Event: event.Meta{ID: "T"}, Process: event.Process{PID: 811}, Culprit: detail}
		if got := written(read(t, trace(text...), tr, h)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Of many files those are named that are not the same on every machine; and what a look-back does not
// show of a fork is not guessed.
func TestMany(t *testing.T) {
	t.Parallel()
	var lines []string
	for i, path := range strings.Fields("/usr/share/1 /usr/share/2 /etc/a /usr/share/3 /etc/php/x.ini /home/b /x.pyc /etc/a /usr/share/4 /home/c") {
		lines = append(lines, fmt.Sprintf(`812 %d openat(AT_FDCWD, "%s", O_RDONLY) = 3`, i-20, path))
	}
	lines = append(lines, "812 -5 clone3(0x1, 88) = 813", "812 -4 clone3(0x1, 88) = 900", "812 -4 fork() = 901", "812 -3 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD) = 814", `813 -2 unlink("/x") = 0`)
	back := event.Trace{Process: event.Process{PID: 812}, Culprit: event.TraceDetail{LookBack: &event.LookBack{}}}
	want := strings.TrimSpace(`
2,3,4,5,6,7,8,9,10,11 -20ms 812 : opened /etc/a, /home/b, /home/c, /usr/share/1, /usr/share/2, /usr/share/3 and 3 more
12 -5ms 812 : started thread 813
13 -4ms 812 : started process or thread 900
14 -4ms 812 : started process 901
15 -3ms 812 : started thread 814
16 -2ms 813 : removed /x`)
	if got := written(read(t, trace(lines...), back, asked("H", 7))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func written(s *Story) string {
	var b strings.Builder
	for _, st := range s.Steps {
		if st.Gap {
			b.WriteString("…\n")
		}
		packet := ""
		if st.Packet {
			packet = "> "
		}
		var numbers []string
		for _, p := range st.Lines {
			numbers = append(numbers, fmt.Sprint(p.Line))
		}
		lines := strings.Join(numbers, ",")
		at := st.Time.Sub(time.Unix(sentAt, 0)).Round(time.Millisecond)
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("%s %v %d %s: %s%s %s %s", lines, at, st.TID, st.Program, packet, st.What, st.Object, st.Note)))
	}
	return strings.TrimSpace(b.String())
}

// A line that proves a packet without showing it, and the lines of one that is in pieces, say what was asked.
func TestProvenSteps(t *testing.T) {
	t.Parallel()
	question := message(t, 7, "x.badzone.test", dnsmessage.Header{})
	for name, tt := range map[string]struct {
		parts []event.Line
		lines []string
		want  string
	}{
		"no bytes":  {nil, []string{"812 0 sendto(" + udp + ", 0x7ffc1c504a20, 0x25, 0x4000, 0x0, 0x0) = ?"}, "2 0s 812 : > asked 127.0.0.1:53 for x.badzone.test A"},
		"io_uring":  {nil, []string{"812 0 io_uring_enter(5, 1, 1, 0, NULL, 8) = 1"}, "2 0s 812 : > asked 127.0.0.1:53 for x.badzone.test A"},
		"in pieces": {[]event.Line{{Line: 2}}, []string{"812 0 sendto(" + udp + ", " + quoted(question[:9]) + ", 9, MSG_MORE, NULL, 0) = 9", "812 0 sendto(" + udp + ", " + quoted(question[9:]) + ", 23, 0, NULL, 0) = 23"}, "2,3 0s 812 : > asked 127.0.0.1:53 for x.badzone.test A"},
	} {
		h := asked("H", 7)
		h.Culprit.Proof = &event.ProofDetail{Trace: event.Reference{ID: "T"}, Line: int64(1 + len(tt.lines)), Parts: tt.parts}
		if got := written(read(t, trace(tt.lines...), event.Trace{Event: event.Meta{ID: "T"}, Process: event.Process{PID: 812}}, h)); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

// strace does not know where sockets of other network namespaces are connected to.
func TestUnknownAddress(t *testing.T) {
	t.Parallel()
	h := asked("H", 7)
	got := written(read(t, trace(
		`812 1 write(3<UDP:[4711]>, `+quoted(message(t, 7, "x.badzone.test", dnsmessage.Header{}))+`, 32) = 32`,
		`812 2 write(3<TCP:[4712]>, "GET / HTTP/1.1", 14) = 14`,
	), event.Trace{Event: event.Meta{ID: "T"}, Process: event.Process{PID: 812}}, h))
	const want = `2 1ms 812 : asked an unknown address for x.badzone.test A
3 2ms 812 : sent 14 B to an unknown address beginning "GET / HTTP/1.1"`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A look-back has the time when a vfork returned, which is after its child became a program.
func TestStartedFirst(t *testing.T) {
	t.Parallel()
	lines := []string{`812 -5 execve("/bin/job", ["/bin/job"], 0x1) = 0`, `812 -4 unlink("/x") = 0`, "811 -3 vfork() = 812"}
	tr := event.Trace{Process: event.Process{PID: 812}, Culprit: event.TraceDetail{LookBack: &event.LookBack{Parents: []event.Process{{PID: 811}}}}}
	want := "4 -5ms 811 : started process 812\n2 -5ms 812 job: became /bin/job\n3 -4ms 812 job: removed /x"
	if got := written(read(t, trace(lines...), tr, asked("H", 7))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A long trace gives its begin, what was around the packet, and gaps.
func TestLong(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf(`812 %d unlink("/tmp/%d") = 0`, i-500, i))
	}
	s := read(t, trace(lines...), event.Trace{Process: event.Process{PID: 812}}, asked("H", 7))
	if n := len(s.Steps); n != firstSteps+beforeSteps+afterSteps {
		t.Fatalf("%d steps", n)
	}
	gaps := 0
	for _, st := range s.Steps {
		if st.Gap {
			gaps++
		}
	}
	if last := s.Steps[firstSteps+beforeSteps-1]; gaps != 1 || !s.Steps[firstSteps].Gap || last.Object != "/tmp/499" {
		t.Errorf("%d gaps, last before the packet %s", gaps, last.Object)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(trace("812 1 recvfrom("+udp+", "+reply(f, 7, "x.badzone.test", "192.0.2.7")+", 2048, 0, NULL, NULL) = 48 <0.1>", connect+"0", `812 6 execveat(3, "", ["x"], NULL, 0) = 0`, "812 7 fork() = 812", "812 8 +++ exited with 0 +++"))
	f.Add(trace(`812 1 rename("/a", "/b") = 0`, "812 2 clone(flags=CLONE_THREAD) = 811", "811 3 clone(flags=CLONE_THREAD) = 812", "812 4 setuid(7", "812 5 chmod("))
	f.Fuzz(func(t *testing.T, text string) {
		for _, back := range []*event.LookBack{nil, {}} {
			read(t, text, event.Trace{Process: event.Process{PID: 812}, Culprit: event.TraceDetail{LookBack: back}}, asked("H", 7))
		}
	})
}

// A trace of the default bound, 64 MiB, half of it before the packet.
func BenchmarkRead(b *testing.B) {
	line := `812   %d.%06d read(3</var/www/html/index.php>, "<?php echo 1; // some text of the file that is read here again and again", 4096) = 73 <0.000012>` + "\n"
	var text strings.Builder
	for i := 0; text.Len() < 64<<20; i++ {
		at := sentAt - 10 + i/22000
		fmt.Fprintf(&text, line, at, i%22000)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		read(b, text.String(), event.Trace{Process: event.Process{PID: 812}}, asked("H", 7))
	}
}
