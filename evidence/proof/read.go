package proof

import (
	"bytes"
	"net/netip"
	"time"

	"culprit/internal/strace"
)

// A Call is what one call did with a socket, as a trace shows it.
type Call struct {
	Send          // of a call that received: what it received, and from where
	Received bool // it received
	// Error is EINPROGRESS or the like if a connect did not succeed, or not yet.
	Error string
}

// ReadCall reads a call that sends, receives or connects, all of it: text is what follows the bracket
// after its name. !ok: it is another call, it did nothing, or the line shows no socket of the
// internet.
func ReadCall(name string, text []byte) (c Call, ok bool) {
	p := parser{text: text}
	like := sendsLike(name)
	switch c.Received = like != ""; {
	case name == "connect":
		return p.connect()
	case c.Received:
		ok = ofSocket(text)
	default:
		like, _ = sender([]byte(name + "(" + string(text[:min(len(text), judgeAt)])))
		ok = like != ""
	}
	if !ok {
		return c, false
	}
	c.Send, ok = p.parse(like)
	return c, ok && len(c.Messages) > 0 && (c.Transport != "" || c.Peer().IsValid())
}

// sendsLike returns the call that sends and whose line looks like that of a call that receives.
func sendsLike(name string) string {
	switch name {
	case "recv", "recvfrom":
		return "sendto"
	case "recvmsg":
		return "sendmsg"
	case "recvmmsg":
		return "sendmmsg"
	case "read":
		return "write"
	case "readv":
		return "writev"
	}
	return ""
}

func (p *parser) connect() (c Call, ok bool) {
	if !ofSocket(p.text) {
		return c, false
	}
	p.socket(&c.Send)
	p.depth = 1
	p.begin()
	p.walk()
	c.Messages, c.Took = p.messages, p.took()
	switch result := p.text[p.at:]; strace.Result(result) {
	case strace.Failed:
		_, after, _ := bytes.Cut(result, []byte("= -1 "))
		name, _, _ := bytes.Cut(after, []byte(" "))
		c.Error = string(name)
	case strace.Restarted: // its next try tells
		return c, false
	}
	return c, p.complete && c.Peer().IsValid()
}

// Peer returns whom the call sent to, connected to, or received from: the address that the call
// names, else the one that its socket is connected to.
func (c *Call) Peer() netip.AddrPort {
	if len(c.Messages) > 0 && c.Messages[0].Remote.IsValid() {
		return c.Messages[0].Remote
	}
	return c.Remote
}

// End returns when the call ended that began at a time, as far as its line says that.
func (c *Call) End(began time.Time) time.Time { return began.Add(max(0, c.Took)) }
