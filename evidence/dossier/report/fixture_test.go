package report

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"culprit/evidence/story"
	"culprit/internal/event"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // reports tell local time
	os.Exit(m.Run())
}

var noon = time.Date(2026, 11, 22, 14, 3, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return noon.Add(time.Duration(seconds * float64(time.Second)))
}

func process(pid int, start float64, executable, commandLine string, parent *event.Process) event.Process {
	return event.Process{
		PID: pid, EntityID: fmt.Sprintf("%d-%.0f", pid, start*100), Start: at(start), Name: "x",
		Executable: executable, CommandLine: commandLine, WorkingDirectory: "/home/web1", Parent: parent,
	}
}

func program(p event.Process, lived float64, foundBy, trace string) event.Program {
	e := event.Program{Timestamp: p.Start, Process: p, Event: event.Meta{ID: event.NewID(), Start: &p.Start}}
	e.Culprit = event.ProgramDetail{FoundBy: foundBy, Traced: trace != ""}
	if trace != "" && trace != "ancestor" {
		e.Culprit.Trace = &event.Reference{ID: trace}
	}
	if lived > 0 {
		code := 0
		e.Event.Finish(p.Start.Add(time.Duration(lived * float64(time.Second))))
		e.Process.ExitCode = &code
	}
	return e
}

func trace(id string, p event.Process, foundBy string, ageMS float64) event.Trace {
	t := event.Trace{Timestamp: p.Start, Event: event.Meta{ID: id}, Process: p}
	t.File = event.File{Path: fmt.Sprintf("/var/lib/culprit/traces/01KAP0/%d-%s.strace", p.PID, id), Size: 180_000}
	t.Culprit = event.TraceDetail{
		State: event.StateEnded, FoundBy: foundBy, AgeMS: ageMS, FromStart: ageMS == 0,
		Command: []string{"strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", "65535", "-o", "/proc/self/fd/3", "-p", fmt.Sprint(p.PID)},
	}
	return t
}

func hit(id string, seconds float64, name string, port uint16, origin event.Grade, p *event.Process) event.Hit {
	packet := query(name, port)
	h := event.Hit{
		Timestamp: at(seconds), Event: event.Meta{ID: id}, Rule: event.Rule{Name: "badzone"}, Packet: packet,
		User:    &event.User{ID: "4242", Name: "web1"},
		Network: event.Network{Transport: "udp", Type: "ipv4", Bytes: len(packet)},
		Source:  event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: port}, Destination: event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53},
		DNS: &event.DNS{ID: "39408", Question: event.Question{Name: name, Type: "A", Class: "IN"}}, Process: p,
	}
	h.Culprit = event.HitDetail{Count: 1, Origin: event.Origin{Grade: origin}}
	return h
}

// query is a DNS question in UDP in IPv4.
func query(name string, port uint16) []byte {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		n = dnsmessage.MustNewName("x.badzone.test.")
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 39408, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	payload, err := m.Pack()
	if err != nil {
		panic(err)
	}
	b := []byte{0x45, 0, 0, 0, 0x1b, 0x2f, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 53, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

func proofOf(id, hit, trace string, seconds float64, tid int, line int64) event.Proof {
	p := event.Proof{Timestamp: at(seconds), Event: event.Meta{ID: id}, File: event.File{Path: "/var/lib/culprit/traces/01KAP0/902-" + trace + ".strace"}}
	p.Culprit = event.ProofDetail{Hit: event.Reference{ID: hit}, Trace: event.Reference{ID: trace}, TID: tid, Syscall: "sendto", Line: line}
	return p
}

// cron is what an administrator may find: a cron job in PHP that asks for a bad name.
// Its first run is found when it is on its way, its second is held from the start.
func cron() *Case {
	systemd := process(1, -864000, "/usr/lib/systemd/systemd", "/sbin/init", nil)
	crond := process(640, -863990, "/usr/sbin/cron", "/usr/sbin/cron -f -P", &systemd)
	worker1, worker2 := process(811, 7.30, "/usr/sbin/cron", "/usr/sbin/CRON -f -P", &crond), process(900, 67.30, "/usr/sbin/cron", "/usr/sbin/CRON -f -P", &crond)
	shell1 := process(811+1, 7.31, "/usr/bin/dash", "/bin/sh -c php /home/web1/cron.php >/dev/null", &worker1)
	shell2 := process(900+1, 67.31, "/usr/bin/dash", "/bin/sh -c php /home/web1/cron.php >/dev/null", &worker2)
	php1 := process(813, 7.32, "/usr/bin/php8.2", "php /home/web1/cron.php", &shell1)
	php2 := process(902, 67.32, "/usr/bin/php8.2", "php /home/web1/cron.php", &shell2)
	find := process(903, 69.1, "/usr/bin/find", "find /home/web1/cache -mtime +1 -delete", &php2)
	master := process(700, -863000, "/usr/sbin/php-fpm8.2", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", &systemd)
	fpm := process(733, -3600, "/usr/sbin/php-fpm8.2", "php-fpm: pool web1", &master)
	mail := process(921, 78.2, "/usr/sbin/sendmail", "/usr/sbin/sendmail -t -i", &fpm)

	end := at(107.6)
	c := &Case{
		Made: at(3600), Host: "web.example.net", Kernel: "Linux 6.18.3", Culprit: "0.9.0", Strace: "6.1",
		Config: "rules:\n  - {name: badzone, domain: badzone.test}\ncapture:\n  scope: user\n",
		Capture: event.Capture{
			Timestamp: at(7.42), Event: event.Meta{ID: "01KAP0Q1W3ZJ5R8M7YB2D4E6FG", End: &end}, Rule: &event.Rule{Name: "badzone"},
			User: event.User{ID: "4242", Name: "web1"},
			Culprit: event.CaptureDetail{
				State: event.StateEnded, Scope: "user", Level: 2, Raised: []event.Raise{{Timestamp: at(72.52), Level: 2}}, Hits: 3, Traces: 5, Programs: 7, Unseen: 1, EndedBecause: &event.Ended{Code: event.EndedTime},
				Missed: event.MissedCounts{event.UntracedGone: 1}, Examples: []event.Missed{{PID: 921, CommandLine: "/usr/sbin/sendmail -t -i", Reason: event.Untraced{Code: event.UntracedGone}}},
			},
		},
		Hits: []event.Hit{
			hit("H1", 7.41, "x7f3.badzone.test", 45395, event.GradeSocket, &php1),
			hit("H2", 67.5104, "x7f3.badzone.test", 39551, event.GradeSocket, &php2),
			hit("H3", 72.5152, "x7f3.badzone.test", 41020, event.GradeSocket, &php2),
		},
		Traces: []event.Trace{
			trace("T1", php1, event.FoundScan, 112), trace("T2", fpm, event.FoundScan, 3607430), trace("T3", shell2, event.FoundGate, 0),
			trace("T4", php2, event.FoundGate, 0), trace("T5", find, event.FoundGate, 0),
		},
		Programs: []event.Program{
			program(shell1, 5.2, event.FoundScan, ""), program(php1, 5.1, event.FoundScan, "T1"), program(fpm, 0, event.FoundScan, "T2"),
			program(shell2, 10.4, event.FoundGate, "T3"), program(php2, 10.3, event.FoundGate, "T4"), program(find, 0.8, event.FoundGate, "T5"),
			program(mail, 0.4, event.FoundFork, ""),
		},
		Proofs:   []event.Proof{proofOf("P2", "H2", "T4", 67.5101, 902, 1498), proofOf("P3", "H3", "T4", 72.5149, 902, 1505)},
		Unproven: map[string]string{"H1": "strace was on the process only 2 ms after the packet"},
		Losses:   []event.Loss{{Timestamp: at(52), Culprit: event.LossDetail{Code: event.LossKernel, Count: 12}}},
	}
	c.Snapshots = []event.Snapshot{snapshotFixture(php1)}
	c.Stories = []*Story{{Hit: c.Hits[1], Traces: []event.Trace{c.Traces[3]}, Steps: []story.Step{
		{Lines: places(20), TID: 901, Program: "sh", Time: at(67.311), What: "became", Object: "/bin/sh -c php /home/web1/cron.php >/dev/null", Note: "(/bin/sh)"},
		{Lines: places(21), TID: 901, Program: "sh", Time: at(67.32), What: "started process", Object: "902"},
		{Lines: places(22), TID: 902, Program: "php", Time: at(67.3211), What: "became", Object: "php /home/web1/cron.php", Note: "(/usr/bin/php)"},
		{Lines: places(1428, 1430, 1435, 1467), TID: 902, Program: "php", Time: at(67.4911), What: "opened", Object: "/home/web1/cron.php, /etc/hosts, /etc/resolv.conf", Note: "and 1 more", Gap: true},
		{Lines: places(1498), TID: 902, Program: "php", Time: at(67.5101), What: "asked 127.0.0.1:53 for", Object: "x7f3.badzone.test A", Packet: true},
		{Lines: places(1500), TID: 902, Program: "php", Time: at(67.5113), What: "was told by 127.0.0.1:53 that", Object: "x7f3.badzone.test", Note: "is 192.0.2.7"},
		{Lines: places(1502), TID: 902, Program: "php", Time: at(67.5141), What: "connected to", Object: "192.0.2.7:443"},
		{Lines: places(1620), TID: 902, Program: "php", Time: at(77.62), What: "exited with 0"},
	}}}
	c.Hits[1].DNS.ResponseCode, c.Hits[1].DNS.ResolvedIP = "NOERROR", []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	c.Hits[1].DNS.Answers = []event.DNSRecord{{Name: "x7f3.badzone.test", Type: "A", Class: "IN", TTL: 60, Data: "192.0.2.7"}}
	c.Hits[1].Culprit.Answer = &event.Answer{
		Timestamp: at(67.5113), Trace: event.Reference{ID: "T4"}, Line: 1500, TID: 902, Server: c.Hits[1].Destination,
		Connections: []event.Connection{{Timestamp: at(67.5141), Trace: event.Reference{ID: "T4"}, Line: 1502, TID: 902, Destination: event.Endpoint{IP: netip.MustParseAddr("192.0.2.7"), Port: 443}, Transport: "tcp"}},
	}
	c.Unanswered = map[string]string{"H3": "none is in its traces"}
	c.Programs[0].Culprit.Reason = &event.Untraced{Code: event.UntracedLevel}
	c.Programs[6].Culprit.Reason = &event.Untraced{Code: event.UntracedGone}
	send := `sendto(4<UDP:[127.0.0.1:%d->127.0.0.1:53]>, "\231\360\1\0\0\1\0\0\0\0\0\0\4x7f3\7badzone\4test\0\0\1\0\1", 35, MSG_NOSIGNAL, NULL, 0) = 35 <0.000085>`
	stamp := func(s float64, call string) string {
		return fmt.Sprintf("902   %.6f %s", float64(at(s).UnixMicro())/1e6, call)
	}
	before := []Line{
		{Number: 22, Text: stamp(67.3211, `execve("/usr/bin/php", ["php", "/home/web1/cron.php"], 0x56113e0f3e48 /* 9 vars */) = 0 <0.000612>`)},
		{Number: 1428, Text: stamp(67.4911, `openat(AT_FDCWD</home/web1>, "/home/web1/cron.php", O_RDONLY) = 3</home/web1/cron.php> <0.000078>`), Gap: true},
		{Number: 1459, Text: stamp(67.4931, `read(3</home/web1/cron.php>, "<?php\n$h = base64_decode('eDdmMy5iYWR6b25lLnRlc3Q=');\necho gethostbyname($h), \"\\n\";\n", 4096) = 85 <0.000079>`), Gap: true},
		{Number: 1467, Text: stamp(67.4991, `openat(AT_FDCWD</home/web1>, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC) = 4</etc/resolv.conf> <0.000074>`), Gap: true},
		{Number: 1496, Text: stamp(67.5097, `connect(4<UDP:[14623068]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, 16) = 0 <0.000064>`), Gap: true},
		{Number: 1497, Text: stamp(67.5099, `poll([{fd=4<UDP:[127.0.0.1:39551->127.0.0.1:53]>, events=POLLOUT}], 1, 0) = 1 ([{fd=4, revents=POLLOUT}]) <0.000047>`)},
	}
	c.Excerpts = map[string]Excerpt{
		"P2": {Note: "thread 902, forked by 901 at line 21", Lines: append(before,
			Line{Number: 1498, Text: stamp(67.5101, fmt.Sprintf(send, 39551)), Proof: true},
			Line{Number: 1499, Text: stamp(67.5103, `poll([{fd=4<UDP:[127.0.0.1:39551->127.0.0.1:53]>, events=POLLIN}], 1, 5000) = 0 (Timeout) <5.004312>`)})},
		"P3": {Lines: []Line{
			{Number: 1503, Text: stamp(72.5146, `connect(4<UDP:[14623069]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, 16) = 0 <0.000053>`)},
			{Number: 1505, Text: stamp(72.5149, fmt.Sprintf(send, 41020)), Proof: true, Gap: true},
		}},
	}
	return c
}

// snapshotFixture is a snapshot of a process in which everything is set.
func snapshotFixture(p event.Process) event.Snapshot {
	s := event.Snapshot{Timestamp: at(7.4102), Event: event.Meta{ID: "S1", Duration: 14_250_000}, User: event.User{ID: "4242", Name: "web1"}}
	user := &event.User{ID: "4242", Name: "web1"}
	s.Process = event.SnapshotProcess{
		Process: p, Args: []string{"php", "/home/web1/cron.php"}, EnvVars: []string{"HOME=/home/web1", "PATH=/usr/bin:/bin"},
		User: &event.User{ID: "0", Name: "root"}, SavedUser: user, RealGroup: &event.Group{ID: "4242"}, Supplementary: []event.Group{{ID: "33"}},
		Hash: &event.Hash{SHA256: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"},
	}
	s.Process.RealUser = user
	s.Culprit = event.SnapshotDetail{
		FSUser: user, Cgroup: "/system.slice/cron.service", Threads: 1,
		Maps:           []event.Mapping{{Start: "0x5594efc00000", End: "0x5594f0100000", Permissions: "rwx", Path: "/usr/bin/php8.2"}, {Start: "0x7f1c00000000", End: "0x7f1c00001000", Permissions: "rwx"}},
		Files:          []event.OpenFile{{FD: 0, Access: "r", Path: "/dev/null"}, {FD: 1, Access: "w", Path: "pipe:[4711]"}},
		Sockets:        []event.Socket{{FD: 4, Inode: 14623068, Family: "inet", Type: "dgram", Protocol: "udp", Local: "127.0.0.1:45395", Remote: "127.0.0.1:53"}, {FD: 5, Inode: 1}},
		Registers:      &event.Registers{TID: p.PID, Syscall: 44, Args: []string{"0x4", "0x7ffd"}, SP: "0x7ffda19998f8", PC: "0x7f4d1c86b503"},
		Stack:          []event.Frame{{Address: "0x00007f4d1c86b503", Function: "__send", Module: "/usr/lib/libc.so.6"}, {Address: "0x00005594eff44e7a"}},
		Replaceable:    &event.Replaceable{Code: event.ReplaceableWritable, Detail: "/home/web1"},
		KeptExecutable: &event.File{Path: "/var/lib/culprit/executables/2c26b46b68ff", Size: 5_700_000},
	}
	s.Culprit.LeaveOut(event.PartEnvironment, 7)
	s.Culprit.Miss(event.PartStack, event.IncompletePartly, "no more")
	return s
}

// crowd is a capture at the bounds: many traces of many programs that live for
// milliseconds, and more packets than anybody wants to read.
func crowd(traces, hits int) *Case {
	systemd := process(1, -864000, "/usr/lib/systemd/systemd", "/sbin/init", nil)
	c := &Case{
		Made: at(900), Capture: event.Capture{
			Timestamp: at(0), Event: event.Meta{ID: "01KAP0Q1W3ZJ5R8M7YB2D4E6FG"}, User: event.User{ID: "4242", Name: "web1"},
			Culprit: event.CaptureDetail{State: event.StateRunning, Scope: "user", Level: 3, Hits: hits, Traces: traces, Programs: traces},
		},
		Excerpts: map[string]Excerpt{},
	}
	for i := range traces {
		shell := process(10_000+i/50, float64(i/50), "/usr/bin/dash", "/bin/sh /home/web1/run.sh", &systemd)
		p := process(20_000+i, float64(i)*0.5, fmt.Sprintf("/usr/bin/tool%d", i%17), fmt.Sprintf("tool%d --number %d --with-many-arguments", i%17, i%400), &shell)
		id := fmt.Sprintf("T%d", i)
		c.Traces = append(c.Traces, trace(id, p, event.FoundGate, 0))
		c.Programs = append(c.Programs, program(p, 0.3+float64(i%7), event.FoundGate, id))
	}
	for i := range hits {
		k := i % traces
		p := &c.Traces[k].Process
		h := hit(fmt.Sprintf("H%d", i), float64(k)*0.5+0.1, fmt.Sprintf("x%d.badzone.test", i), uint16(10_000+i), event.GradeSocket, p)
		c.Hits = append(c.Hits, h)
		if i%2 == 0 {
			proof := proofOf(fmt.Sprintf("P%d", i), h.Event.ID, c.Traces[k].Event.ID, float64(k)*0.5+0.1, p.PID, int64(i))
			c.Proofs = append(c.Proofs, proof)
			var lines []Line
			for n := range 30 {
				lines = append(lines, Line{Number: int64(i + n), Text: fmt.Sprintf("%d %s", p.PID, `openat(AT_FDCWD</home/web1>, "/usr/lib/x86_64-linux-gnu/libresolv.so.2", O_RDONLY|O_CLOEXEC) = 4</usr/lib/x86_64-linux-gnu/libresolv.so.2> <0.000074>`), Proof: n == 20})
			}
			c.Excerpts[proof.Event.ID] = Excerpt{Lines: lines}
		}
	}
	return c
}

// places are lines of the trace T4.
func places(lines ...int64) (all []story.Place) {
	for _, l := range lines {
		all = append(all, story.Place{Trace: "T4", Line: l})
	}
	return all
}
