package hunt

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"culprit/test/harness"
)

// piecesScript sends queries whose text lies in two pieces of the packet's buffer.
const piecesScript = `
import os, socket
MSG_MORE, UDP_CORK, UDP_SEGMENT = 0x8000, 1, 103
def query(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"
def udp(family=socket.AF_INET, to="127.0.0.1"):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((to, 53))
    return s
def split(name):
    q = query(name)
    at = q.index(b"badzone") + 3
    return q[:at], q[at:]
s = udp()
a, b = split("more.badzone.test")
s.send(a, MSG_MORE)
s.send(b)
s = udp(socket.AF_INET6, "::1")
a, b = split("six.badzone.test")
s.send(a, MSG_MORE)
s.send(b)
for s, name in (udp(), "cork"), (udp(socket.AF_INET6, "::1"), "corksix"):
    s.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
    for piece in split(name + ".badzone.test"):
        s.send(piece)
    s.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM) # it gets its port while it sends
a, b = split("fresh.badzone.test")
s.sendto(a, MSG_MORE, ("127.0.0.1", 53))
s.sendto(b, ("127.0.0.1", 53))
s = udp()
a, b = split("page.badzone.test")
s.sendmsg([a, b + b"." * 8000]) # what is behind a message is no part of it
s = udp()
s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(query("segment.badzone.test")))
s.send(query("segment.harmles.test") + query("segment.badzone.test"))
s = socket.create_connection(("127.0.0.1", 53))
a, b = split("stream.badzone.test")
s.send((len(a) + len(b)).to_bytes(2, "big") + a, MSG_MORE)
s.send(b)
udp().send(query("last.badzone.test"))
`

// Text that lies in two pieces of a packet is found, and a question in a later one of several
// datagrams that the kernel sends as one packet: programs choose the pieces. All system calls that
// made such a packet prove it.
func TestPieces(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		d := h.Hunt(`
rules: [{name: zone, domain: badzone.test}]
log: {level: debug, format: json}
nflog: {snaplen: 65535}
capture: {levels: [{hits: 1, processes: 200, window: 10m, strings: 65535}], concurrent: 64}
`)
		uid := harness.NewUID()
		d.Captured(uid)
		if p := h.StartAs(uid, "python3", "-I", "-S", "-c", piecesScript); p.Wait() != 0 {
			t.Fatalf("the sender ended with %d: %s", p.Wait(), p.Output)
		}
		d.Hit("last.badzone.test")
		for name, calls := range map[string][]string{
			"more": {"sendto", "sendto"}, "six": {"sendto", "sendto"}, "fresh": {"sendto", "sendto"}, "stream": {"sendto", "sendto"},
			"cork": {"sendto", "sendto", "setsockopt"}, "corksix": {"sendto", "sendto", "setsockopt"},
			"page": {"sendmsg"}, "segment": {"sendto"}, "last": {"sendto"},
		} {
			harness.Eventually(t, name+" is proven", func() error { return madeBy(d, name+".badzone.test", calls) })
		}
	})
}

// madeBy returns an error unless a hit is proven by lines of these system calls, and culprit shows
// them all.
func madeBy(d *harness.Daemon, name string, calls []string) error {
	hit := d.Hit(name)
	p := hit.Culprit.Proof
	if p == nil || p.Probable || p.Kernel {
		return fmt.Errorf("its proof is %+v", p)
	}
	var got []string
	var lines []int64
	for _, part := range p.Parts {
		got, lines = append(got, part.Syscall), append(lines, part.Line)
	}
	if got, lines = append(got, p.Syscall), append(lines, p.Line); !slices.Equal(got, calls) {
		return fmt.Errorf("the calls are %q, want %q", got, calls)
	}
	trace := d.Trace(hit.Process.PID, "is there", nil)
	text, err := harness.ReadFile(trace.File.Path)
	if err != nil {
		return err
	}
	show := d.Host.Culprit("show", hit.Event.ID, "--evidence", d.Evidence).Must(d.T)
	report := d.Host.Culprit("report", hit.Event.ID, "--evidence", d.Evidence, "--text").Must(d.T)
	all := strings.Split(string(text), "\n")
	sent := ""
	for i, n := range lines {
		line := all[n-1]
		if !strings.Contains(line, calls[i]+"(") {
			return fmt.Errorf("line %d is no %s: %s", n, calls[i], line)
		}
		sent += line
		if marked := fmt.Sprintf("> %6d  ", n); !strings.Contains(show, "\n  "+marked) || !strings.Contains(report, "\n"+marked) {
			return fmt.Errorf("line %d is not shown as one that sent it:\n%s\n%s", n, show, report)
		}
	}
	if whole := name[:strings.Index(name, ".")] + `\7badzone\4test`; !strings.Contains(sent, `\7bad"`) && !strings.Contains(sent, whole) {
		return fmt.Errorf("the lines do not hold the name: %s", sent)
	}
	return nil
}
