package proof

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// one scans a trace in which there is one send.
func one(t *testing.T, trace string) Send {
	t.Helper()
	sends := scan(t, []byte(trace), whole)
	if len(sends) != 1 {
		t.Fatalf("there are %d sends, want 1, in %s", len(sends), trace)
	}
	return sends[0]
}

func TestCalls(t *testing.T) {
	addr := netip.MustParseAddrPort
	msg := func(size int, data string) []Message { return []Message{{Data: []byte(data), Size: size}} }
	for _, test := range []struct {
		name, line string
		want       Send
	}{
		{
			"connected", `sendto(3<UDP:[127.0.0.1:42392->127.0.0.1:53]>, "\0\1x", 3, MSG_NOSIGNAL, NULL, 0) = 3 <0.000020>`,
			Send{
				Took: 20 * time.Microsecond, FD: 3, Syscall: "sendto", Socket: "UDP:[127.0.0.1:42392->127.0.0.1:53]", Transport: "udp",
				Local: addr("127.0.0.1:42392"), Remote: addr("127.0.0.1:53"), Messages: msg(3, "\x00\x01x"),
			},
		},
		{
			"named", `sendto(3<UDP:[0.0.0.0:42392]>, "abc", 3, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 3`,
			Send{
				Took: -1, FD: 3, Syscall: "sendto", Socket: "UDP:[0.0.0.0:42392]", Transport: "udp", Local: addr("0.0.0.0:42392"),
				Messages: []Message{{Data: []byte("abc"), Size: 3, Remote: addr("127.0.0.53:53")}},
			},
		},
		{
			"IPv6", `sendto(3<UDPv6:[4711]>, "abc", 3, 0, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "fe80::1", &sin6_addr), sin6_scope_id=if_nametoindex("eth0")}, 28) = 3`,
			Send{
				Took: -1, FD: 3, Syscall: "sendto", Socket: "UDPv6:[4711]", Transport: "udp",
				Messages: []Message{{Data: []byte("abc"), Size: 3, Remote: addr("[fe80::1]:53")}},
			},
		},
		{
			"mapped", `write(3<TCPv6:[[::ffff:127.0.0.1]:4->[::ffff:127.0.0.1]:53]>, "abc", 3) = 3`,
			Send{
				Took: -1, FD: 3, Syscall: "write", Socket: "TCPv6:[[::ffff:127.0.0.1]:4->[::ffff:127.0.0.1]:53]", Transport: "tcp",
				Local: addr("127.0.0.1:4"), Remote: addr("127.0.0.1:53"), Messages: msg(3, "abc"),
			},
		},
		{"more", `send(3<UDP:[1]>, "abc", 3, MSG_NOSIGNAL|MSG_MORE) = 3`, Send{Took: -1, FD: 3, Syscall: "send", Socket: "UDP:[1]", Transport: "udp", Messages: []Message{{Data: []byte("abc"), Size: 3, More: true}}}},
		{"more in the text", `send(3<UDP:[1]>, "MSG_MORE", 8, 0) = 8`, Send{Took: -1, FD: 3, Syscall: "send", Socket: "UDP:[1]", Transport: "udp", Messages: msg(8, "MSG_MORE")}},
		{"corked", `setsockopt(3<UDP:[1]>, SOL_UDP, UDP_CORK, [1], 4) = 0 <0.000009>`, Send{Took: 9 * time.Microsecond, FD: 3, Syscall: "setsockopt", Socket: "UDP:[1]", Transport: "udp", Cork: CorkOn}},
		{"uncorked", `setsockopt(3<UDPv6:[1]>, SOL_UDP, UDP_CORK, [0], 4) = 0`, Send{Took: -1, FD: 3, Syscall: "setsockopt", Socket: "UDPv6:[1]", Transport: "udp", Cork: CorkOff}},
		{"TCP sends what waits", `setsockopt(3<TCP:[1]>, SOL_TCP, TCP_CORK, [0], 4) = 0`, Send{Took: -1, FD: 3, Syscall: "setsockopt", Socket: "TCP:[1]", Transport: "tcp", Hidden: true}},
		{"TCP waits no more", `setsockopt(3<TCP:[1]>, SOL_TCP, TCP_NODELAY, [1], 4) = 0`, Send{Took: -1, FD: 3, Syscall: "setsockopt", Socket: "TCP:[1]", Transport: "tcp", Hidden: true}},
		{"at no place", `pwritev2(4<TCP:[1]>, [{iov_base="ab", iov_len=2}], 1, -1, 0) = 2 <0.000020>`, Send{Took: 20 * time.Microsecond, FD: 4, Syscall: "pwritev2", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(2, "ab")}},
		{"sendfile", `sendfile(3<TCP:[1]>, 4</etc/passwd>, NULL, 3) = 3 <0.000020>`, Send{Took: 20 * time.Microsecond, FD: 3, Syscall: "sendfile", Socket: "TCP:[1]", Transport: "tcp", Hidden: true}},
		{"sendfile from a place", `sendfile(3<UDP:[127.0.0.1:51925->127.0.0.1:53]>, 4</memfd:query>(deleted), [0] => [32], 32) = 32 <0.000084>`, Send{Took: 84 * time.Microsecond, FD: 3, Syscall: "sendfile", Socket: "UDP:[127.0.0.1:51925->127.0.0.1:53]", Transport: "udp", Local: addr("127.0.0.1:51925"), Remote: addr("127.0.0.1:53"), Hidden: true}},
		{"splice", `splice(5<pipe:[17]>, NULL, 3<UDP:[1]>, NULL, 33, SPLICE_F_MOVE) = 33`, Send{Took: -1, FD: 3, Syscall: "splice", Socket: "UDP:[1]", Transport: "udp", Hidden: true}},
		{"splice, descriptors only", `splice(5, NULL, 3, NULL, 33, 0) = 33`, Send{Took: -1, FD: 3, Syscall: "splice", Socket: "3", Hidden: true}},
		{"io_uring", `io_uring_enter(4<anon_inode:[io_uring]>, 1, 1, IORING_ENTER_GETEVENTS, NULL, 8) = 1 <0.1>`, Send{Took: 100 * time.Millisecond, FD: -1, Syscall: "io_uring_enter", Hidden: true}},
		{"io_uring, interrupted", `io_uring_enter(4<anon_inode:[io_uring]>, 0, 1, IORING_ENTER_GETEVENTS, NULL, 8) = -1 EINTR (Interrupted system call)`, Send{Took: -1, FD: -1, Syscall: "io_uring_enter", Hidden: true}},
		{"aio", `io_submit(0x7f0d8a1f2000, 1, [{aio_data=0, aio_lio_opcode=IOCB_CMD_PWRITE, aio_fildes=3<UDP:[1]>, aio_buf="abc", aio_nbytes=3, aio_offset=0}]) = 1`, Send{Took: -1, FD: -1, Syscall: "io_submit", Hidden: true}},
		{"raw", `sendto(3<RAW:[0.0.0.0:17]>, "abc", 3, 0, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("127.0.0.1")}, 16) = 3`, Send{Took: -1, FD: 3, Syscall: "sendto", Socket: "RAW:[0.0.0.0:17]", Hidden: true}},
		{"no addresses", `send(3<socket:[17]>, "abc", 3, 0) = 3`, Send{Took: -1, FD: 3, Syscall: "send", Socket: "socket:[17]", Messages: msg(3, "abc")}},
		{"no socket", `write(3, "abc", 3) = 3`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "3", Messages: msg(3, "abc")}},
		{"cut", `write(3<TCP:[1]>, "abc"..., 500) = 500`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(500, "abc")}},
		{"short write", `write(3<TCP:[1]>, "abcdef", 6) = 2`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(2, "ab")}},
		{"killed", `write(3<TCP:[1]>, "abcdef", 6) = ?`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(6, "abcdef")}},
		{"strace went away", `write(3<TCP:[1]>, "abcdef", 6 <detached ...>`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(6, "abcdef")}},
		{"ends in the string", `write(3<TCP:[1]>, "abc`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(-1, "abc")}},
		{"brackets in strings", `write(3<TCP:[1]>, ") = -1 \" iov_base=", 18) = 18`, Send{Took: -1, FD: 3, Syscall: "write", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(18, `) = -1 " iov_base=`)}},
		{
			"writev", `writev(4<TCP:[1]>, [{iov_base="ab", iov_len=2}, {iov_base="", iov_len=0}, {iov_base="cd", iov_len=2}], 3) = 4`,
			Send{Took: -1, FD: 4, Syscall: "writev", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(4, "abcd")},
		},
		{
			"hole", `writev(4<TCP:[1]>, [{iov_base="ab"..., iov_len=9}, {iov_base="cd", iov_len=2}], 2) = 11`,
			Send{Took: -1, FD: 4, Syscall: "writev", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(11, "ab")},
		},
		{
			"unreadable", `writev(4<TCP:[1]>, [{iov_base="ab", iov_len=2}, {iov_base=0x7f00, iov_len=7}, {iov_base="cd", iov_len=2}], 3) = 11`,
			Send{Took: -1, FD: 4, Syscall: "writev", Socket: "TCP:[1]", Transport: "tcp", Messages: msg(11, "ab")},
		},
		{
			"sendmsg", `sendmsg(4<UDP:[1]>, {msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, msg_namelen=16, msg_iov=[{iov_base="ab", iov_len=2}], msg_iovlen=1, msg_control=[{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO, cmsg_data={ipi_ifindex=if_nametoindex("lo"), ipi_spec_dst=inet_addr("10.0.0.9"), ipi_addr=inet_addr("10.0.0.8")}}], msg_controllen=32, msg_flags=0}, 0) = 2`,
			Send{Took: -1, FD: 4, Syscall: "sendmsg", Socket: "UDP:[1]", Transport: "udp", Messages: []Message{{Data: []byte("ab"), Size: 2, Remote: addr("10.0.0.1:53")}}},
		},
		{
			"sendmmsg sends one of two", `sendmmsg(5<UDP:[1]>, [{msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="ab", iov_len=2}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, msg_len=2}, {msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="cd", iov_len=2}], msg_iovlen=1, msg_controllen=0, msg_flags=0}}], 2, MSG_NOSIGNAL) = 1`,
			Send{Took: -1, FD: 5, Syscall: "sendmmsg", Socket: "UDP:[1]", Transport: "udp", Messages: msg(2, "ab")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.TID, test.want.Line, test.want.Time = 812, 1, time.Unix(1700000000, 123456000)
			got := one(t, "812   1700000000.123456 "+test.line+"\n")
			if diff := cmp.Diff(test.want, got, compareAddr); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoSends(t *testing.T) {
	for _, line := range []string{
		`write(1</dev/null<char 1:3>>, "abc", 3) = 3`,
		`write(1</tmp/UDP:[1]>, "abc", 3) = 3`,
		`write(1<pipe:[17]>, "abc", 3) = 3`,
		`sendto(3<UNIX-STREAM:[1->2]>, "abc", 3, 0, NULL, 0) = 3`,
		`sendto(3<NETLINK:[ROUTE:1]>, "abc", 3, 0, NULL, 0) = 3`,
		`sendto(3<UDP:[1]>, "abc", 3, 0, NULL, 0) = -1 EPERM (Operation not permitted) <0.1>`,
		`sendto(3<UDP:[1]>, "abc", 3, 0, NULL, 0) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)`,
		`sendto(3<UDP:[1]>, "", 0, 0, NULL, 0) = 0`,
		`sendto(-1, "abc", 3, 0, NULL, 0) = -1 EBADF (Bad file descriptor)`,
		`setsockopt(3<UDP:[1]>, SOL_UDP, UDP_CORK, [1], 4) = -1 ENOTSOCK (Socket operation on non-socket)`,
		`setsockopt(3<UDP:[1]>, SOL_UDP, UDP_SEGMENT, [33], 4) = 0`,
		`setsockopt(3<TCP:[1]>, SOL_TCP, TCP_CORK, [1], 4) = 0`,
		`setsockopt(3<TCP:[1]>, SOL_TCP, TCP_NODELAY, [1], 4) = -1 EINVAL (Invalid argument)`,
		`setsockopt(3<UDP:[1]>, SOL_SOCKET, SO_BINDTODEVICE, ", SOL_UDP, UDP_CORK, [1", 4) = 0`,
		`sendfile(3</tmp/x>, 4<TCP:[1]>, NULL, 3) = 3`,
		`sendfile(3<TCP:[1]>, 4</etc/passwd>, NULL, 3) = -1 EPIPE (Broken pipe)`,
		`splice(3<TCP:[1]>, NULL, 4<pipe:[17]>, NULL, 3, 0) = 3`,
		`splice(3<pipe:[1]>, NULL, 4</tmp/x>, [0], 3, 0) = 3`,
		`splice(3<pipe:[1]>, 4<TCP:[1]>`,
		`io_setup(128, [0x7f]) = 0`,
		`pwrite64(3<TCP:[1]>, "abc", 3, 0) = -1 ESPIPE (Illegal seek)`,
		`read(3<UDP:[1]>, "abc", 3) = 3`,
		`<... sendto resumed>) = 3`,
		`<... read resumed>"abc", 3) = 3`,
		`+++ exited with 0 +++`,
	} {
		if sends := scan(t, []byte("812 1700000000.1 "+line+"\n"), whole); len(sends) != 0 {
			t.Errorf("%s: %+v, want nothing", line, sends)
		}
	}
	for _, line := range []string{
		`# 812 1700000000.1 sendto(3<UDP:[1]>, "abc", 3, 0, NULL, 0) = 3`,
		` > /usr/lib/libc.so.6(__sendto+0x1a) [0x1]`,
		`812`, `812 `, `812 17`, `812 17 `, ``, `x`, `812 1700000000.1 s`, `812 1700000000.1 write(`, `812 1700000000.1 write(3`, `812 1700000000.1 write(3<`,
	} {
		if sends := scan(t, []byte(line+"\n"), whole); len(sends) != 0 {
			t.Errorf("%s: %+v, want nothing", line, sends)
		}
	}
}

func TestUnfinished(t *testing.T) {
	const begin = `1 1700000000.1 sendto(3<UDP:[1]>, "abc", 3, 0, NULL, 0 <unfinished ...>` + "\n"
	const begin2 = `1 1700000000.1 sendmmsg(3<UDP:[1]>,  <unfinished ...>` + "\n"
	const other = `2 1700000000.2 write(3<TCP:[1]>, "zzz", 3) = -1 EPIPE (Broken pipe)` + "\n"
	for _, test := range []struct {
		name, trace string
		line        int64 // 0: no send
	}{
		{"bytes at the begin", begin + other + "1 1700000000.3 <... sendto resumed>) = 3 <0.2>\n", 1},
		{"strace 5", begin + other + "1 1700000000.3 <... sendto resumed> ) = 3 <0.2>\n", 1},
		{"bytes at the end", begin2 + other + `1 1700000000.3 <... sendmmsg resumed>[{msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="abc", iov_len=3}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, msg_len=3}], 1, 0) = 1` + "\n", 3},
		{"failed", begin + other + "1 1700000000.3 <... sendto resumed>) = -1 EPERM (Operation not permitted)\n", 0},
		{"another call", begin2 + "1 1700000000.3 <... write resumed>) = 3\n", 0},
		{"killed", begin + other + "1 1700000000.3 +++ killed by SIGKILL +++\n", 1},
		{"trace ends", begin + other, 1},
		{"last line has no end", other + strings.TrimSuffix(begin, "\n"), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.line == 0 {
				if sends := scan(t, []byte(test.trace), whole); len(sends) != 0 {
					t.Errorf("%+v, want nothing", sends)
				}
				return
			}
			s := one(t, test.trace)
			if string(s.Messages[0].Data) != "abc" || s.Line != test.line || s.TID != 1 || !s.Time.Equal(time.Unix(1700000000, 1e8)) {
				t.Errorf("%+v, want abc at line %d", s, test.line)
			}
		})
	}
}

// However long lines are and however many calls never return, memory is bounded, and
// what is left out is counted.
func TestScannerBounds(t *testing.T) {
	sends := 0
	s := NewScanner(func(Send) { sends++ })
	piece := bytes.Repeat([]byte("x"), 1<<20)
	for range 16 {
		s.Write(piece) // no send
	}
	if n := cap(s.lines.Begun()); n > maxLine {
		t.Errorf("of a line that is no send %d bytes are kept", n)
	}
	fmt.Fprintf(s, "\n1 1700000000.1 write(3<TCP:[1]>, \"")
	for range 16 {
		s.Write(piece)
	}
	if n := cap(s.lines.Begun()); n > 2*maxLine {
		t.Errorf("of a long line %d bytes are kept", n)
	}
	fmt.Fprintf(s, "\", %d) = %d\n", 16<<20, 16<<20)
	if sends != 1 || s.Lost().LongLines != 1 {
		t.Errorf("%d sends, %d long lines; want 1, 1", sends, s.Lost().LongLines)
	}
	for tid := range 2 * maxPending {
		fmt.Fprintf(s, "%d 1700000000.1 write(3<TCP:[1]>, \"%s\", 9000 <unfinished ...>\n", tid, piece[:9000])
	}
	if len(s.pending) > maxPending || s.pendingLen > maxPendingLen {
		t.Errorf("%d calls of %d bytes are remembered", len(s.pending), s.pendingLen)
	}
	if want := int64(2*maxPending - len(s.pending)); s.Lost().Unfinished != want {
		t.Errorf("%d calls were counted as forgotten, want %d", s.Lost().Unfinished, want)
	}
}

// Whatever the trace holds and however it comes, the same is found.
func FuzzScanner(f *testing.F) {
	for _, test := range samples {
		trace, _ := readSample(f, test.name)
		f.Add(trace[:min(len(trace), 8<<10)], uint16(7))
	}
	f.Add([]byte(`1 1.1 sendmmsg(5<UDP:[1]>, [{msg_hdr={iov_base="a", iov_len=99999999999}, msg_len=1}], 1) = 1`), uint16(1))
	for _, line := range []string{
		"1x1.1 a\n1\n1 x\n1 1.1\n" + strings.Repeat("x", judgeAt),        // no begin of a line
		`1 1.1 sendto(x, "a", 1, 0, NULL, 0) = 1`,                        // no descriptor
		`1 1.1 sendto(5, "a", 1, 0, NULL, 0) = 1`,                        // strace could not say what it is
		`1 1.1 sendto(5<UDP:[1, "a", 1, 0, NULL) = 1`,                    // a socket without an end
		`1 1.1 sendto(5<UDP:[x->y]>, "a`,                                 // a string without one
		`1 1.1 sendmsg(5<TCP:[1]>, {msg_hdr={`,                           // brackets without theirs
		`1 1.1 sendmmsg(5<UDP:[1]>, [{iov_base="a", iov_len=1}], 1) = 1`, // a buffer of no message
		`1 1.1 sendto(5<UDP:[1]>, "a", 1, 0) 1`,                          // no result
		`1 1.1 sendmsg(5<UDP:[1]>, {iov_base="a"}, 0) = 1`,               // no length
		`1 1.1 setsockopt(5<UDP:[1]>, SOL_UDP, UDP_CORK, [`,              // no value
		`1 1.1 setsockopt(5<TCP:[1]>, SOL_TCP, TCP_CORK, [0]`,            // no result
		`1 1.1 splice(4<pipe:[1]>, NULL, 5<UDP:[1]>, NULL, 1, 0) = 1 <`,  // no time
		`1 1.1 io_uring_enter( <unfinished ...>`,                         // no arguments
		`1 1.1 sendto(5<RAW:[0.0.0.0:17]>, "a", 1, 0, NULL, 0) = 1`,      // no transport
	} {
		f.Add([]byte(line+"\n"), uint16(0)) // byte by byte
		f.Add([]byte(line), uint16(3))
	}
	f.Fuzz(func(t *testing.T, trace []byte, piece uint16) {
		a := scan(t, trace, whole)
		b := scan(t, trace, func() int { return int(piece)%300 + 1 })
		// What is pending at the end comes in no order.
		if len(a) != len(b) {
			t.Errorf("%d sends in one piece, %d in several", len(a), len(b))
		}
		for _, s := range a {
			for _, m := range s.Messages {
				if m.Size < -1 || m.Size == 0 || m.Size > 0 && len(m.Data) > m.Size || len(m.Data) > maxData {
					t.Errorf("%d bytes of a message of %d", len(m.Data), m.Size)
				}
			}
		}
	})
}
