package gate

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// The daemon and the gate talk over a SOCK_SEQPACKET pair. Each message is one packet, with its
// kind in the first byte and numbers in little endian.
const (
	kindWatch = 'W' // to the gate: the UIDs to hold, 4 bytes each; replaces the earlier ones
	kindGo    = 'G' // to the gate: a held process may go on: its number
	kindPing  = 'P' // to the gate, which answers with its counts
	kindHeld  = 'H' // to the daemon: a process is held
	kindMarks = 'M' // to the daemon: the file systems are marked; those that could not be, as text
)

// maxMessage bounds a message, in bytes.
const maxMessage = 16 << 10

// Held is a process that the gate holds in its execve. With number 0 it is one that went on,
// because it was already traced.
type Held struct {
	Number uint64 // of the hold, for [Keeper.Go]
	ID     proc.ID
	Since  int64  // when the hold began, in nanoseconds of CLOCK_MONOTONIC
	UID    uint32 // the watched UID to which the process belongs
	Tracer int    // the PID of its tracer, or 0
	Path   string // of the program that it will become, as the gate sees it
}

// Counts are what the gate has done since it started.
type Counts struct {
	Passed  uint64 // let go at once: not watched, or traced already
	Held    uint64 // held until the daemon said go, or longer
	Expired uint64 // held until their deadline, because the daemon did not say go
	Busy    uint64 // let go at once because the daemon did not listen
}

func (h Held) encode() []byte {
	b := make([]byte, 0, 64+len(h.Path))
	b = append(b, kindHeld)
	b = binary.LittleEndian.AppendUint64(b, h.Number)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.ID.PID))
	b = binary.LittleEndian.AppendUint64(b, h.ID.Start)
	b = binary.LittleEndian.AppendUint32(b, h.UID)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Since))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Tracer))
	return append(b, h.Path...)
}

func decodeHeld(b []byte) (Held, error) {
	if len(b) < 37 {
		return Held{}, fmt.Errorf("message of %d bytes", len(b))
	}
	return Held{
		Number: binary.LittleEndian.Uint64(b[1:]),
		ID:     proc.ID{PID: int(binary.LittleEndian.Uint32(b[9:])), Start: binary.LittleEndian.Uint64(b[13:])},
		UID:    binary.LittleEndian.Uint32(b[21:]),
		Since:  int64(binary.LittleEndian.Uint64(b[25:])),
		Tracer: int(binary.LittleEndian.Uint32(b[33:])),
		Path:   string(b[37:]),
	}, nil
}

// Began returns when the hold began.
func (h Held) Began() time.Time { return time.Now().Add(time.Duration(h.Since - monotonic())) }

// monotonic returns the clock that all processes share, in nanoseconds (man 2 clock_gettime).
func monotonic() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano()
}

func (c Counts) encode() []byte {
	b := []byte{kindPing}
	for _, n := range []uint64{c.Passed, c.Held, c.Expired, c.Busy} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func decodeCounts(b []byte) (Counts, error) {
	if len(b) != 33 {
		return Counts{}, fmt.Errorf("message of %d bytes", len(b))
	}
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(b[1+8*i:]) }
	return Counts{n(0), n(1), n(2), n(3)}, nil
}

func encodeWatch(uids []uint32) []byte {
	b := []byte{kindWatch}
	for _, uid := range uids {
		b = binary.LittleEndian.AppendUint32(b, uid)
	}
	return b
}

func decodeWatch(b []byte) []uint32 {
	var uids []uint32
	for b = b[1:]; len(b) >= 4; b = b[4:] {
		uids = append(uids, binary.LittleEndian.Uint32(b))
	}
	return uids
}

func encodeGo(number uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{kindGo}, number)
}
