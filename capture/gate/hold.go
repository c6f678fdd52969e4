package gate

import (
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/stopped"
)

// A hold is an execve that waits for our answer.
type hold struct {
	number uint64
	file   int32 // the event's descriptor, with which we answer
	id     proc.ID
	until  time.Time
}

// releaseNumber releases the hold with a number, if there is one.
func (g *gate) releaseNumber(number uint64) {
	for i, h := range g.holds {
		if h.number == number {
			g.release(h)
			g.holds = slices.Delete(g.holds, i, i+1)
			return
		}
	}
}

// expire releases the holds that have reached their deadline.
func (g *gate) expire(now time.Time) {
	for len(g.holds) > 0 && !now.Before(g.holds[0].until) {
		g.counts.Expired++
		g.release(g.holds[0])
		g.holds = g.holds[1:]
	}
	if g.stop && len(g.holds) == 0 {
		g.stopped.Clear()
	}
}

// releaseAll releases all holds when the gate ends.
func (g *gate) releaseAll() {
	for _, h := range g.holds {
		g.release(h)
	}
	g.holds = nil
	if g.stop {
		g.stopped.Close()
	}
}

// release lets a held process go on.
func (g *gate) release(h hold) {
	if h.file >= 0 {
		g.allow(h.file)
	}
	if g.stop {
		stopped.Resume(g.fs, h.id)
		_ = g.stopped.Remove(h.id)
	}
}

// allow answers an event. It ignores errors, which mean that the kernel no longer waits.
func (g *gate) allow(file int32) {
	var answer [8]byte
	binary.NativeEndian.PutUint32(answer[:], uint32(file))
	binary.NativeEndian.PutUint32(answer[4:], unix.FAN_ALLOW)
	_, _ = unix.Write(g.fanotify, answer[:])
	_ = unix.Close(int(file))
}
