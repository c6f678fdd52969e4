package hunt

import (
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
s = udp()
s.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
for piece in split("cork.badzone.test"):
    s.send(piece)
s.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
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
// datagrams that the kernel sends as one packet: programs choose the pieces.
func TestPieces(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		d := h.Hunt(harness.LongWindow + "rules: [{name: zone, domain: badzone.test}]\n")
		uid := harness.NewUID()
		if p := h.StartAs(uid, "python3", "-I", "-S", "-c", piecesScript); p.Wait() != 0 {
			t.Fatalf("the sender ended with %d: %s", p.Wait(), p.Output)
		}
		for _, name := range []string{"last", "more", "six", "cork", "page", "segment", "stream"} {
			d.Hit(name + ".badzone.test")
		}
	})
}
