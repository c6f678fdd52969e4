package connector

import (
	"encoding/binary"
	"iter"
	"time"

	"golang.org/x/sys/unix"
)

// A Kind says what a process did.
type Kind uint8

// The kinds of events.
const (
	// Fork: the process was created, by fork, vfork or clone.
	Fork Kind = iota + 1
	// Exec: the process executed another program.
	Exec
	// UID: a thread of the process changed its UIDs (real, effective, saved or file system, see
	// credentials(7)), perhaps by executing a set-user-ID program.
	UID
	// Exit: the first thread of the process ended. Mostly the process ended with it, but other
	// threads may live on. If one of those executes a program it takes over the PID: an Exec
	// follows this Exit.
	Exit
)

func (k Kind) String() string {
	switch k {
	case Fork:
		return "fork"
	case Exec:
		return "exec"
	case UID:
		return "uid"
	case Exit:
		return "exit"
	}
	return "unknown"
}

// An Event is about a whole process (a thread group). Of what its threads do only UID is
// reported. All numbers are those of the initial namespaces.
type Event struct {
	Kind Kind
	// PID is the process; for a Fork the new one.
	PID int
	// Parent is the parent of the new process. Fork only.
	Parent int
	// RUID and EUID are the UIDs after the change. UID only.
	RUID, EUID uint32
	// ExitCode is the wait status, see wait(2). Exit only.
	ExitCode uint32
	// Time is when it happened, by CLOCK_MONOTONIC (ktime_get_ns): time since boot without
	// suspends.
	Time time.Duration
}

// Identifiers of linux/connector.h and linux/cn_proc.h.
const (
	cnIdxProc = 1
	cnValProc = 1

	mcastListen = 1 // PROC_CN_MCAST_LISTEN
	mcastIgnore = 2 // PROC_CN_MCAST_IGNORE

	whatNone = 0 // an acknowledgement
	whatFork = 0x00000001
	whatExec = 0x00000002
	whatUID  = 0x00000004
	whatExit = 0x80000000
)

// Lengths of structures, in bytes. All fields are in the byte order of the machine.
const (
	headerLen  = unix.SizeofNlMsghdr // struct nlmsghdr
	messageLen = 20                  // struct cn_msg: id (two numbers), seq, ack, len, flags
	eventLen   = 16                  // struct proc_event before its union: what, cpu, timestamp
)

// encode makes a request to the proc connector. The acknowledgement has its number, plus one.
func encode(number uint32, op []byte) []byte {
	ne := binary.NativeEndian
	b := make([]byte, 0, headerLen+messageLen+len(op))
	b = ne.AppendUint32(b, uint32(cap(b)))
	b = ne.AppendUint16(b, unix.NLMSG_DONE)
	b = append(b, make([]byte, 10)...) // flags, sequence, port
	b = ne.AppendUint32(b, cnIdxProc)
	b = ne.AppendUint32(b, cnValProc)
	b = ne.AppendUint32(b, 0) // seq
	b = ne.AppendUint32(b, number)
	b = ne.AppendUint16(b, uint16(len(op)))
	b = ne.AppendUint16(b, 0) // flags
	return append(b, op...)
}

// A message is one message of the proc connector.
type message struct {
	ack   uint32
	event []byte // struct proc_event, at least the part before its union
}

// messages returns the complete messages of a datagram.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		ne := binary.NativeEndian
		for len(b) >= headerLen {
			length := int(ne.Uint32(b))
			if length < headerLen || length > len(b) {
				return
			}
			body := b[headerLen:length]
			b = b[min((length+3)&^3, len(b)):] // NLMSG_ALIGN
			if len(body) < messageLen+eventLen || ne.Uint32(body) != cnIdxProc || ne.Uint32(body[4:]) != cnValProc {
				continue
			}
			event := body[messageLen:]
			if n := int(ne.Uint16(body[16:])); n < eventLen || n > len(event) {
				continue
			} else if !yield(message{ne.Uint32(body[12:]), event[:n]}) {
				return
			}
		}
	}
}

// acknowledges reports whether m acknowledges the request of that number, and the error in it.
func (m message) acknowledges(number uint32) (unix.Errno, bool) {
	ne := binary.NativeEndian
	if len(m.event) < eventLen+4 || ne.Uint32(m.event) != whatNone || m.ack != number+1 {
		return 0, false
	}
	return unix.Errno(ne.Uint32(m.event[eventLen:])), true
}

// appendEvents appends the events of a datagram.
func appendEvents(events []Event, b []byte) []Event {
	for m := range messages(b) {
		if e, ok := decode(m.event); ok {
			events = append(events, e)
		}
	}
	return events
}

// decode reads a struct proc_event. It reports false if that is no [Event]: of another kind, or
// of a thread.
func decode(b []byte) (Event, bool) {
	ne := binary.NativeEndian
	e := Event{Time: time.Duration(ne.Uint64(b[8:]))}
	what, b := ne.Uint32(b), b[eventLen:]
	field := func(i int) uint32 { return ne.Uint32(b[4*i:]) }
	// Every event but Fork begins with the thread and the process.
	switch {
	case what == whatFork && len(b) >= 16:
		// The thread and process of the parent, then those of the child.
		if field(2) != field(3) {
			return Event{}, false
		}
		e.Kind, e.PID, e.Parent = Fork, int(field(3)), int(field(1))
	case what == whatExec && len(b) >= 8:
		e.Kind, e.PID = Exec, int(field(1))
	case what == whatUID && len(b) >= 16:
		e.Kind, e.PID, e.RUID, e.EUID = UID, int(field(1)), field(2), field(3)
	case what == whatExit && len(b) >= 12:
		if field(0) != field(1) {
			return Event{}, false
		}
		e.Kind, e.PID, e.ExitCode = Exit, int(field(1)), field(2)
	default:
		return Event{}, false
	}
	return e, true
}
