package strace

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A trace file begins and ends with comment lines of ours: "# key: value".
const (
	commentMark = "# "
	keyEnd      = ": "
)

// A key says what a comment line is about.
type key uint8

// The keys of the header, then those of the footer.
const (
	keyTrace key = iota
	keyCapture
	keyHit
	keyLinked
	keyPacket
	keyOrigin
	keyProcess
	keyExecutable
	keyCommandLine
	keyDirectory
	keyParent
	keyContainer
	keyStrace
	keyKernel
	keyLookBack

	keyBecame
	keyEnded
	keyDropped
	keyExit

	keyCount
)

// A foreign value was chosen by others and may hold a secret. A value is foreign unless its key
// says that it is ours.
const (
	foreign = false
	ours    = true
)

// keys describes all keys. A key that is missing here has no name, which a test finds, and a
// foreign value.
var keys = [keyCount]struct {
	name string
	ours bool
}{
	keyTrace:       {"culprit trace", ours},
	keyCapture:     {"capture", ours},
	keyHit:         {"hit", ours},
	keyLinked:      {"linked as", ours},
	keyPacket:      {"packet", ours},
	keyOrigin:      {"origin", foreign},
	keyProcess:     {"process", ours},
	keyExecutable:  {"executable", foreign},
	keyCommandLine: {"command line", foreign},
	keyDirectory:   {"directory", foreign},
	keyParent:      {"parent", foreign},
	keyContainer:   {"container", foreign},
	keyStrace:      {"strace", ours},
	keyKernel:      {"seen by the kernel", ours},
	keyLookBack:    {"look-back", ours},

	keyBecame:  {"became", foreign},
	keyEnded:   {"ended", ours},
	keyDropped: {"bytes dropped", ours},
	keyExit:    {"exit status", ours},
}

// comments are the comment lines being written.
type comments []byte

// add adds a line. Whatever the value is, it stays one line and is safe to print.
func (c *comments) add(k key, format string, args ...any) {
	*c = fmt.Appendf(*c, "%s%s%s%s\n", commentMark, keys[k].name, keyEnd, text.Escape(fmt.Sprintf(format, args...)))
}

// A Header says at the beginning of a trace file what the trace belongs to.
type Header struct {
	Trace *event.Trace
	Hit   *event.Hit // that triggered it; nil: started by hand
	// Origin says in words what sent the packet of the hit.
	Origin string
	// LookBack says what a look-back has, and what is missing. It stands in place of strace.
	LookBack []string
}

// Append appends the lines of the header.
func (h Header) Append(to []byte) []byte {
	c := comments(to)
	t := h.Trace
	p, d := &t.Process, &t.Culprit
	c.add(keyTrace, "%s", t.Event.ID)
	c.add(keyCapture, "%s of user %s", d.Capture.ID, &t.User)
	if h.Hit != nil {
		h.hit(&c)
	} else {
		c.add(keyHit, "none: started by hand")
	}
	c.add(keyProcess, "%d, started %s, found by %s", p.PID, p.Start.Format(time.RFC3339Nano), d.FoundBy)
	c.add(keyExecutable, "%s", p.Executable)
	c.add(keyCommandLine, "%s", p.CommandLine)
	c.add(keyDirectory, "%s", p.WorkingDirectory)
	for _, parent := range p.Ancestry() {
		c.add(keyParent, "%s", parent)
	}
	if t.Container != nil {
		c.add(keyContainer, "%s", words.Container(&t.Place))
	}
	for _, line := range h.LookBack {
		c.add(keyLookBack, "%s", line)
	}
	if len(h.LookBack) == 0 {
		c.add(keyStrace, "%s", text.Quote(d.Command))
	}
	return c
}

// hit adds the lines about the hit.
func (h Header) hit(c *comments) {
	hit := h.Hit
	linked := "the latest of the user when this process was found"
	for _, p := range hit.Senders() {
		if p.EntityID == h.Trace.Process.EntityID {
			linked = "a packet of this process"
		}
	}
	question := "no DNS question"
	if hit.DNS != nil {
		question = "dns id " + hit.DNS.ID + " asks " + hit.Asks()
	}
	c.add(keyHit, "%s at %s, rule %s", hit.Event.ID, hit.Timestamp.Format(time.RFC3339Nano), hit.Rule.Name)
	c.add(keyLinked, "%s", linked)
	c.add(keyPacket, "%s %s -> %s, %s", hit.Network.Transport, hit.Source, hit.Destination, question)
	c.add(keyOrigin, "%s", h.Origin)
}

// AppendSent appends the system call with which a process sent the packet of a hit, as the kernel
// saw it, to the header of a trace of that process that begins only then. It looks as strace -yy -e
// raw would show it. args are those of the call as far as they are known. ran says that somebody let
// the process go on before strace was on it.
func AppendSent(to []byte, hit *event.Hit, args []string, ran bool) []byte {
	c := comments(to)
	since := "stood still until strace was on it"
	if ran {
		since = "was stopped there, but let go on before strace was on it: what it did until then is missing"
	}
	c.add(keyKernel, "the next line is not strace's: in this call the thread sent the packet of hit %s, and %s", hit.Event.ID, since)
	sent := hit.Culprit.Sent
	at := sent.Timestamp.UnixMicro()
	return fmt.Appendf(c, "%d %d.%06d %s(%s) = ?\n", sent.TID, at/1e6, at%1e6, sent.Syscall, rawArgs(hit, args))
}

// rawArgs writes the arguments of the call that sent a packet. The first is most often the socket.
func rawArgs(hit *event.Hit, args []string) string {
	if len(args) == 0 {
		return "..."
	}
	args = slices.Clone(args)
	fd, err := strconv.ParseInt(args[0], 0, 32)
	kind := map[string]string{"udp ipv4": "UDP", "udp ipv6": "UDPv6", "tcp ipv4": "TCP", "tcp ipv6": "TCPv6"}[hit.Network.Transport+" "+hit.Network.Type]
	switch {
	case err != nil || kind == "":
	case hit.Culprit.Sent.Syscall == "io_uring_enter", hit.Culprit.Sent.Syscall == "splice": // another descriptor
	default:
		args[0] = fmt.Sprintf("%d<%s:[%s->%s]>", fd, kind, hit.Source, hit.Destination)
	}
	return strings.Join(args, ", ")
}

// A Footer says at the end of a trace file how the trace ended.
type Footer struct {
	// Executable and CommandLine are the program that the process has executed since the header
	// was written; empty if there is none.
	Executable, CommandLine string
	Ended                   string // why the trace ended
	Dropped                 int64  // bytes of strace's output that are missing in the file
	ExitCode                *int   // of the process, 128+n for signal n; nil: not seen
}

// Append appends the lines of the footer.
func (f Footer) Append(to []byte) []byte {
	c := comments(to)
	if f.Executable != "" {
		c.add(keyBecame, "%s: %s", f.Executable, f.CommandLine)
	}
	c.add(keyEnded, "%s", f.Ended)
	c.add(keyDropped, "%d", f.Dropped)
	if f.ExitCode != nil {
		c.add(keyExit, "%d", *f.ExitCode)
	} else {
		c.add(keyExit, "not seen")
	}
	return c
}

// AppendPartial appends the footer of a trace that nobody closed. The last line of such a trace
// may lack its end, so the footer begins with a line end.
func AppendPartial(to []byte, ended string) []byte {
	c := comments(append(to, '\n'))
	c.add(keyEnded, "%s: this trace is partial", ended)
	return c
}

// IsComment reports whether a line of a trace file is a comment of ours. Lines of strace never
// are.
func IsComment(line []byte) bool { return bytes.HasPrefix(line, []byte(commentMark)) }

// AnnouncesSent reports whether a line of a trace file is the comment before a line that [AppendSent] wrote.
func AnnouncesSent(line []byte) bool {
	return bytes.HasPrefix(line, []byte(commentMark+keys[keyKernel].name+keyEnd))
}

// Spare returns how many bytes at the beginning of a line of a trace file must never be masked:
// TID and time, without which it cannot be read, the key of a comment, and its value if that is
// ours.
func Spare(line []byte) int {
	comment, ok := bytes.CutPrefix(line, []byte(commentMark))
	if !ok {
		_, _, text := ParseLine(line)
		if text == nil {
			return 0
		}
		return len(line) - len(text)
	}
	name, _, ok := bytes.Cut(comment, []byte(keyEnd))
	if !ok {
		return len(commentMark)
	}
	for _, k := range keys {
		if k.ours && string(name) == k.name {
			return len(line)
		}
	}
	return len(commentMark) + len(name) + len(keyEnd)
}
