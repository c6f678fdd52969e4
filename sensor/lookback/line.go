package lookback

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/strace"
)

// Append appends the event as strace would have written it (-f -ttt -T -yy, see internal/strace). What
// a line of strace would show and the ring does not have, is left as an address.
func (s *Story) Append(to []byte, e *Event) []byte {
	if e.form == fork && e.Result == 0 {
		return to // the child's side; strace does not show it
	}
	t := s.Time(e.At)
	stamp := func() {
		to = fmt.Appendf(to, "%-5d %d.%06d ", e.TID, t.Unix(), t.Nanosecond()/int(time.Microsecond))
	}
	if e.Name != "" {
		stamp()
		begin := len(to)
		to = append(append(to, e.Name...), '(')
		w := writer{Event: e, to: to}
		w.arguments()
		to = append(w.to, ')')
		const column = 39 // where strace puts the result
		for len(to)-begin < column {
			to = append(to, ' ')
		}
		to = append(e.result(append(to, " = "...)), '\n')
	}
	if e.Ended {
		stamp()
		to = e.ending(to)
	}
	return to
}

// ending appends how the thread ended.
func (e *Event) ending(to []byte) []byte {
	status := e.Status()
	if !status.Signaled() {
		return fmt.Appendf(to, "+++ exited with %d +++\n", status.ExitStatus())
	}
	to = append(append(to, "+++ killed by "...), unix.SignalName(status.Signal())...)
	if status.CoreDump() {
		to = append(to, " (core dumped)"...)
	}
	return append(to, " +++\n"...)
}

// result appends what the call returned.
func (e *Event) result(to []byte) []byte {
	const lastError, firstRestart, lastRestart = -4095, -516, -512
	switch {
	case e.Ended:
		return append(to, '?')
	case e.Result >= firstRestart && e.Result <= lastRestart: // include/linux/errno.h
		return append(to, "? ERESTARTSYS (To be restarted if SA_RESTART is set)"...)
	case e.Result < 0 && e.Result >= lastError:
		number := syscall.Errno(-e.Result)
		text := number.Error()
		return fmt.Appendf(to, "-1 %s (%s%s)", unix.ErrnoName(number), strings.ToUpper(text[:1]), text[1:])
	case e.Name == "mmap":
		return fmt.Appendf(to, "%#x", uint64(e.Result))
	}
	return strconv.AppendInt(to, e.Result, 10)
}

// writer writes the arguments of one call. It takes its parts in order.
type writer struct {
	*Event
	to   []byte
	used int // parts
	left int // bytes that the call received; negative: all that the vectors hold
}

func (w *writer) arguments() {
	if w.left = -1; w.form == read || w.form == readMessage {
		w.left = int(w.Result)
	}
	letters := shape(w.Name)
	if w.Compat {
		letters = shape32(w.Name)
	}
	for i, c := range letters {
		if c == 'M' && w.Args[i-1]&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) == 0 {
			break // there is no mode
		}
		if i > 0 {
			w.add(", ")
		}
		w.argument(c, i, w.Args[i])
	}
	if w.Compat {
		w.add(" /* 32-bit call */")
	}
}

func (w *writer) add(format string, args ...any) { w.to = fmt.Appendf(w.to, format, args...) }

func (w *writer) pointer(v uint64) {
	if v == 0 {
		w.add("NULL")
		return
	}
	w.add("%#x", v)
}

func (w *writer) number(v uint64) {
	if v == 0 {
		w.add("0")
		return
	}
	w.add("%#x", v)
}

func (w *writer) directory(fd int32) {
	if fd == unix.AT_FDCWD {
		w.add("AT_FDCWD")
		return
	}
	w.add("%d", fd)
}

// take takes the next part, if it is of that kind.
func (w *writer) take(kind int) *part {
	for w.used < len(w.parts) {
		p := &w.parts[w.used]
		if p.kind != partSocket && p.kind != partParent {
			if p.kind != kind {
				return nil
			}
			w.used++
			return p
		}
		w.used++
	}
	return nil
}

// missing writes an address of memory that was not there: a page that was not loaded, or none at all.
func (w *writer) missing(v uint64) {
	if w.pointer(v); v != 0 {
		w.add(" /* not in memory */")
	}
}

func (w *writer) str(v uint64) {
	p := w.take(partString)
	if p == nil || p.failed {
		w.missing(v)
		return
	}
	w.quoted(p.bytes, p.cut)
}

func (w *writer) quoted(s []byte, cut bool) { w.to = strace.AppendQuoted(w.to, s, cut) }

// list writes the arguments of a program.
func (w *writer) list(v uint64) {
	p := w.take(partArgs)
	switch {
	case p == nil: // they are not recorded of what did not start
		w.pointer(v)
		return
	case p.failed:
		w.missing(v)
		return
	}
	args, cut := p.args()
	w.add("[")
	for i, arg := range args {
		if i > 0 {
			w.add(", ")
		}
		w.quoted([]byte(arg), cut && i == len(args)-1)
	}
	w.add("]")
	if w.Args[1] != 0 {
		w.add(" /* a script: as its interpreter got them */")
	}
}

// data writes bytes of a buffer.
func (w *writer) data(p *part, v, whole uint64) {
	if p == nil || p.failed {
		w.missing(v)
		return
	}
	b := p.bytes
	if w.left >= 0 {
		whole = min(whole, uint64(w.left))
		b = b[:min(len(b), w.left)]
		w.left -= int(whole)
	}
	w.quoted(b, uint64(len(b)) < whole)
}
