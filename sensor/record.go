package sensor

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// A record is what the program says about a packet. The program writes it in this shape, in the
// byte order of the machine (see look in program.go).
const (
	recTime    = 0                // u64: CLOCK_MONOTONIC, in nanoseconds
	recPIDs    = 8                // u64: thread in the low half, process in the high half
	recStart   = 16               // u64: start of the process since boot, in nanoseconds
	recCgroup  = 24               // u64
	recCall    = 32               // u64: number of the system call in progress
	recUID     = 40               // u32: real
	recEUID    = 44               // u32
	recFlags   = 48               // u32: task_struct.flags
	recPtrace  = 52               // u32: task_struct.ptrace, of the thread and of its process
	recContext = 56               // u32: 0 if the process sends for itself
	recCompat  = 60               // u32: thread_info.status
	recHold    = 64               // u64: number of the hold; 0: it was not stopped
	recKeyLen  = 72               // u32
	recUser    = 72               // u32, of a process that is held at its start: the user who is captured
	recWhyNot  = 76               // u32: why it was not stopped
	recComm    = 80               // [16]byte
	recKey     = 96               // [keySize]byte: the beginning of the packet, or of the NFLOG message
	recStack   = recKey + keySize // u64: mm_struct.start_stack
	recCode    = recStack + 8     // u64: mm_struct.end_code
	recSize    = recCode + 8
)

// keySize is how much of a packet is compared, in bytes: more than headers, id and name of a
// DNS question.
const keySize = 256

// What the fields hold (include/linux/preempt.h, include/linux/sched.h).
const (
	softirqs        = 0xff << 8         // of preempt_count: disabled, or 0x100 if one is served
	softirqDisabled = 0x200             // SOFTIRQ_DISABLE_OFFSET, added each time
	interrupts      = 0xf<<16 | 0xf<<20 // of preempt_count: hardirq, NMI
	kernelThread    = 0x00200000        // PF_KTHREAD
	userWorker      = 0x00000010        // PF_IO_WORKER: a thread of io_uring
	compatStatus    = 0x2               // TS_COMPAT of x86, in thread_info.status
)

// A Send is what the kernel saw of the sender of a packet, while it sent the packet.
type Send struct {
	At        time.Time
	Process   proc.ID
	TID       int
	UID, EUID uint32
	Comm      string
	Cgroup    uint64
	// Syscall is the name of the system call in progress; "io_uring" in a thread of io_uring.
	Syscall string
	// Image is that of the program that sent it: the process may run another one by now.
	Image proc.Image
	// Hold is the number under which the process is stopped, 0 if it is not.
	Hold uint64

	inContext bool // it was the sender who ran: see context in program.go; no kernel thread
	key       []byte
}

// Certain reports whether the process that ran is the one that sent the packet. Packets of TCP
// also go out in interrupts, when anybody may be running, by kernel threads, and by system calls
// that send nothing, such as a recvmsg that takes in an acknowledgement.
func (s *Send) Certain() bool { return s.inContext && s.Syscall != "" }

// decodeSend reads a record. calls names the system calls that send.
func decodeSend(b []byte, calls map[uint32]string) (Send, error) {
	if len(b) < recSize {
		return Send{}, fmt.Errorf("record of %d bytes, want %d", len(b), recSize)
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	pids, flags := u64(recPIDs), u32(recFlags)
	s := Send{
		At:      wall(u64(recTime)),
		Process: proc.ID{PID: int(pids >> 32), Start: ticks(u64(recStart))},
		TID:     int(uint32(pids)),
		UID:     u32(recUID), EUID: u32(recEUID),
		Comm:      unix.ByteSliceToString(b[recComm : recComm+16]),
		Cgroup:    u64(recCgroup),
		Hold:      u64(recHold),
		Image:     proc.Image{Stack: u64(recStack), Code: u64(recCode)},
		inContext: u32(recContext) == 0 && flags&kernelThread == 0,
		key:       append([]byte(nil), b[recKey:recKey+min(u32(recKeyLen), keySize)]...),
	}
	if flags&userWorker != 0 {
		s.Syscall = "io_uring"
	} else {
		s.Syscall = calls[callKey(u64(recCall), u32(recCompat))]
	}
	return s, nil
}

// perTick is the unit of the times in /proc/PID/stat (man 5 proc_pid_stat): USER_HZ is 100.
const perTick = time.Second / 100

// ticks turns nanoseconds since boot into that unit.
func ticks(ns uint64) uint64 { return ns / uint64(perTick) }

// wall turns a time of CLOCK_MONOTONIC, in nanoseconds, into one of the calendar. It reads both clocks
// again if something came in between: evidence/proof compares this time with strace's.
func wall(mono uint64) time.Time {
	const near, tries = int64(100 * time.Microsecond), 10
	for i := 1; ; i++ {
		before := monotonic()
		now := time.Now()
		if monotonic()-before < near || i == tries {
			return now.Add(time.Duration(int64(mono) - before))
		}
	}
}

// monotonic reads CLOCK_MONOTONIC, in nanoseconds.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}

// decodeStop reads what the program says of a process that it stopped (see list in stop.go).
func decodeStop(b []byte) held {
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	return held{
		by:     int(u64(stopNumber) >> holdByBit & holdBy),
		number: u64(stopNumber),
		key:    keyOf(u64(stopNumber)),
		id:     proc.ID{PID: int(u32(stopPID)), Start: ticks(u64(stopStart))},
		uid:    u32(stopUID),
		since:  wall(u64(stopTime)),
	}
}
