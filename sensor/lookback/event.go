package lookback

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// An Event is one system call.
type Event struct {
	Process proc.ID
	TID     int
	Name    string
	At      uint64 // when it returned, in nanoseconds of CLOCK_MONOTONIC
	Result  int64
	Args    [6]uint64
	UID     uint32
	Compat  bool // by the 32-bit interface
	Started bool // it is an execve by which a program has started
	// Ended says that the thread ended, by this call or, if it has no name, by a signal or because
	// the process ended. Result is then its status.
	Ended bool

	form  form
	parts []part
}

// Status returns how a thread ended (man 2 wait).
func (e *Event) Status() unix.WaitStatus { return unix.WaitStatus(e.Result) }

// part is memory that an argument pointed to.
type part struct {
	kind   int
	failed bool   // it was not there
	whole  uint64 // its length in the program, if known
	bytes  []byte // for a string without its NUL, if that was reached
	cut    bool   // a string whose end was not reached
}

// args returns the arguments of a program. The last one may be cut.
func (p *part) args() (args []string, cut bool) {
	if cut = p.whole > uint64(len(p.bytes)); len(p.bytes) == 0 {
		return nil, cut
	}
	text, whole := strings.CutSuffix(string(p.bytes), "\x00")
	return strings.Split(text, "\x00"), cut && !whole
}

func u16(b []byte, at int) uint16 { return binary.NativeEndian.Uint16(b[at:]) }
func u32(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }

// perTick is the unit of the times in /proc/PID/stat: USER_HZ is 100.
const perTick = uint64(time.Second / 100)

func idOf(pid uint32, start uint64) proc.ID {
	return proc.ID{PID: int(pid), Start: start / perTick}
}

// processOf returns whose call a record is.
func processOf(b []byte) proc.ID { return idOf(u32(b, recPID), u64(b, recStart)) }

// decoder turns records into events.
type decoder struct {
	calls   map[uint32]call
	compat  map[uint32]string
	strings int // the length at which strings are cut
}

// decode reads a whole record. Its strings are copies.
func (d *decoder) decode(b []byte) (e Event, ok bool) {
	if len(b) < recParts {
		return e, false
	}
	number := u32(b, recCall)
	e = Event{
		Process: processOf(b), TID: int(u32(b, recTID)), At: u64(b, recTime), Result: int64(u64(b, recResult)), UID: u32(b, recUID),
		Compat: number&callCompat != 0, Started: number&callStarts != 0, Ended: number&callEnds != 0,
	}
	for i := range e.Args {
		e.Args[i] = u64(b, recArgs+8*i)
	}
	c, ok := d.calls[number&callNumber]
	switch {
	case e.Started:
		c, ok = call{"execve", start}, true
	case e.Compat:
		c.name, ok = d.compat[number&callNumber]
		c.form = none
	}
	if e.Ended {
		if e.Compat && c.name != "exit" && c.name != "exit_group" || !e.Compat && c.form != exit {
			c.name = ""
		}
		ok = true
		if e.Compat { // its argument was in another register
			e.Args = [6]uint64{uint64(e.Status().ExitStatus())}
		}
	}
	e.Name, e.form = c.name, c.form
	for rest := b[recParts:]; ok && len(rest) >= partBytes; {
		p := part{kind: int(u32(rest, partKind)), whole: u64(rest, partWhole)}
		n := int(int32(u32(rest, partLength)))
		p.failed, n = n < 0, max(n, 0)
		if rest = rest[partBytes:]; n > len(rest) {
			return e, false
		}
		p.bytes = append([]byte(nil), rest[:n]...)
		rest = rest[min(len(rest), (n+7)&^7):]
		if p.kind == partString {
			// The kernel ends what it cuts with a NUL, too.
			p.bytes = p.bytes[:max(0, n-1)]
			if p.cut = len(p.bytes) > d.strings; p.cut {
				p.bytes = p.bytes[:d.strings]
			}
		}
		e.parts = append(e.parts, p)
	}
	return e, ok
}

// sock is what a descriptor is.
type sock struct {
	family, kind, protocol uint16
	inode                  uint64
	local, remote          netip.AddrPort
}

// socket returns what the call's descriptor is. !ok: no socket of the internet.
func (e *Event) socket() (s sock, ok bool) {
	i := slices.IndexFunc(e.parts, func(p part) bool { return p.kind == partSocket && len(p.bytes) >= sockSize })
	if i < 0 {
		return s, false
	}
	b := e.parts[i].bytes
	size := 4
	switch u16(b, sockFamily) {
	case unix.AF_INET:
	case unix.AF_INET6:
		size = 16
	default:
		return s, false
	}
	local, _ := netip.AddrFromSlice(b[sockLocal : sockLocal+size])
	remote, _ := netip.AddrFromSlice(b[sockRemote : sockRemote+size])
	return sock{
		family: u16(b, sockFamily), kind: u16(b, sockType), protocol: u16(b, sockProtocol), inode: u64(b, sockInode),
		local:  netip.AddrPortFrom(local, u16(b, sockLocalPort)),
		remote: netip.AddrPortFrom(remote, binary.BigEndian.Uint16(b[sockRemotePort:])),
	}, true
}
