// Package gate holds a program of a captured UID inside its execve until strace is attached, so
// that its trace begins with its first instruction.
//
// The gate is a separate process ([Run], started by a [Keeper] of the daemon). It has fanotify
// marks (FAN_OPEN_EXEC_PERM, man 7 fanotify) on every file system from which a program can be
// started, and each execve on the machine waits for its answer. So it must answer, whatever
// happens:
//
//   - It never forks and never executes anything, because its own execve would wait for itself.
//     In the daemon that would be a deadlock of the whole machine: Go's fork is a vfork, whose
//     child waits in execve for the answer of a goroutine that cannot run while the parent
//     waits for the child.
//   - It opens only files below /proc, never with the intent to execute.
//   - One thread reads and answers; it waits only for the next event, message or deadline
//     (poll). Another one sets the marks.
//   - A held process goes on when the daemon says so, and at the latest after the deadline.
//     Nothing is held for a daemon that does not answer pings.
//   - When the daemon ends, its end of the socket closes and the gate ends. When the gate ends,
//     the kernel lets everyone through.
//   - While there are marks, a kernel timer kills the gate if its loop does not turn, even if
//     the gate is stopped (see watchdog).
package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"culprit/internal/fanotify"
	"culprit/internal/proc"
	"culprit/internal/stopped"
)

// sendBuffer is the size of the buffer for messages to the daemon, in bytes.
const sendBuffer = 8 << 20

// patience is how much longer than its deadline the gate may hang before its watchdog kills it.
const patience = 200 * time.Millisecond

// pingEvery is how often the daemon pings the gate while anything is watched.
const pingEvery = 50 * time.Millisecond

// gate is the state of the helper process. Its one thread owns it.
type gate struct {
	fs       proc.FS
	fanotify int
	daemon   int // socket
	deadline time.Duration
	stop     bool          // hold by SIGSTOP outside of execve
	stopped  *stopped.List // the stopped processes; nil without stop

	uids       []uint32
	holds      []hold // oldest first, so the first expires first
	lastNumber uint64
	counts     Counts
	lastHeard  time.Time // the daemon's last message
	marks      *marker
	dog        watchdog
}

// Config configures a gate.
type Config struct {
	Deadline time.Duration // the longest that an execve is held
	// Stop stops programs by SIGSTOP after their execve instead of holding them inside it:
	// before Linux 6.8 nobody can attach to a process in execve (there the file is opened with
	// cred_guard_mutex held).
	Stop   bool
	Exempt []string // files that the gate is never asked about, see [Exempt]
}

// Run runs the gate until the daemon's socket closes.
func Run(socket int, c Config) error {
	runtime.LockOSThread()
	debug.SetGCPercent(400) // it allocates little; collect even less
	// If memory runs out, be the last to be killed, as everybody waits for us. If we are killed
	// nevertheless, the kernel lets all programs through.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)

	fd, err := fanotify.Open()
	if err != nil {
		return err
	}
	// When it closes the kernel lets everyone through: before we say what went wrong, as a
	// standard error that nobody reads would hold us up.
	defer unix.Close(fd)
	if err := exempt(fd, c.Exempt); err != nil {
		return err
	}
	var list *stopped.List
	if c.Stop {
		if list, err = stopped.Open(stopped.Dir); err != nil {
			return err
		}
	}
	if err := unix.SetNonblock(socket, true); err != nil {
		return fmt.Errorf("use the daemon's socket: %w", err)
	}
	// Room for messages about thousands of programs that start at once. Best effort.
	_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)
	g := &gate{
		fs: proc.Default, fanotify: fd, daemon: socket, deadline: c.Deadline, stop: c.Stop, stopped: list,
		lastNumber: uint64(time.Now().UnixNano()), // never repeats a number of an earlier gate
		lastHeard:  time.Now(), marks: newMarker(fd, socket),
	}
	if g.dog, err = newWatchdog(c.Deadline + patience); err != nil {
		return err
	}
	raisePriority()
	defer g.releaseAll()
	return g.loop()
}

// loop answers until the daemon has gone.
func (g *gate) loop() error {
	fds := []unix.PollFd{{Fd: int32(g.fanotify), Events: unix.POLLIN}, {Fd: int32(g.daemon), Events: unix.POLLIN}}
	buf := make([]byte, maxMessage)
	for {
		timeout := -1
		if len(g.uids) > 0 {
			timeout = int(pingEvery.Milliseconds()) // often enough for the watchdog
			if err := g.dog.feed(time.Now()); err != nil {
				return err
			}
		} else if err := g.dog.rest(); err != nil {
			return err
		}
		if len(g.holds) > 0 {
			expires := max(0, int(time.Until(g.holds[0].until).Milliseconds())+1)
			if timeout < 0 || expires < timeout {
				timeout = expires
			}
		}
		if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for events: %w", err)
		}
		// Messages of the daemon come first, as they shorten the wait of others.
		if fds[1].Revents != 0 {
			if gone, err := g.messages(buf); gone || err != nil {
				return err
			}
		}
		if fds[0].Revents != 0 {
			if err := g.events(buf); err != nil {
				return err
			}
		}
		g.expire(time.Now())
	}
}

// events reads the pending fanotify events.
func (g *gate) events(buf []byte) error {
	n, err := unix.Read(g.fanotify, buf[:4096])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read fanotify events: %w", err)
	}
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	for b := buf[:n]; len(b) >= size; {
		e := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
		if e.Vers != unix.FANOTIFY_METADATA_VERSION || int(e.Event_len) < size || int(e.Event_len) > len(b) {
			return fmt.Errorf("read fanotify events: version %d, length %d", e.Vers, e.Event_len)
		}
		if e.Fd >= 0 {
			g.event(e)
		}
		b = b[e.Event_len:]
	}
	return nil
}

// event decides about one execve: it holds it, or answers at once.
func (g *gate) event(e *unix.FanotifyEventMetadata) {
	uid, tracer, watched := g.watched(int(e.Pid))
	if !watched || e.Mask&unix.FAN_OPEN_EXEC_PERM == 0 {
		g.counts.Passed++
		g.allow(e.Fd)
		return
	}
	if tracer != 0 {
		g.counts.Passed++
		g.reportTraced(e, uid, tracer)
		g.allow(e.Fd)
		return
	}
	now := time.Now()
	st, err := g.fs.Stat(int(e.Pid))
	// A daemon that has been silent for so long hangs: do not make others wait.
	if err != nil || now.Sub(g.lastHeard) > g.deadline+2*pingEvery {
		g.counts.Busy++
		g.allow(e.Fd)
		return
	}
	g.lastNumber++
	path, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(e.Fd)))
	h := Held{Number: g.lastNumber, ID: st.ID, Since: monotonic(), UID: uid, Path: path}
	if g.stop {
		// The process stops before its first instruction, on its way out of execve. List it
		// first, so that it does not stay stopped if we are killed.
		if err := g.stopped.Add(st.ID); err != nil || unix.Kill(st.PID, unix.SIGSTOP) != nil {
			g.counts.Busy++
			g.allow(e.Fd)
			return
		}
	}
	if unix.Send(g.daemon, h.encode(), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) != nil {
		g.counts.Busy++
		g.release(hold{id: st.ID, file: e.Fd})
		return
	}
	g.counts.Held++
	held := hold{number: g.lastNumber, file: e.Fd, id: st.ID, until: now.Add(g.deadline)}
	if g.stop {
		g.allow(e.Fd)
		held.file = -1
	}
	g.holds = append(g.holds, held)
}

// watched returns the watched UID of a process, if it has one, and the PID of its tracer, or 0.
// The tracer may be its parent's strace, its own strace (because an execve also opens the
// interpreter), or a foreign one.
//
// Every execve on the machine waits for this, so the cheap question comes first: the owner of
// /proc/PID, which is the effective UID. Processes of root's are examined further. A process
// that belongs to the user only by its real UID is left to the proc connector.
func (g *gate) watched(pid int) (uid uint32, tracer int, watched bool) {
	if len(g.uids) == 0 {
		return 0, 0, false
	}
	if owner, err := g.fs.Owner(pid); err != nil || owner != 0 && !slices.Contains(g.uids, owner) {
		return 0, 0, false
	}
	s, err := g.fs.Status(pid)
	if err != nil {
		return 0, 0, false
	}
	for _, uid := range g.uids {
		if s.Of(uid) {
			return uid, s.TracerPID, true
		}
	}
	return 0, 0, false
}

// reportTraced tells the daemon about an execve that needs no answer, if it listens.
func (g *gate) reportTraced(e *unix.FanotifyEventMetadata, uid uint32, tracer int) {
	st, err := g.fs.Stat(int(e.Pid))
	if err != nil {
		return
	}
	path, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(e.Fd)))
	h := Held{ID: st.ID, Since: monotonic(), UID: uid, Tracer: tracer, Path: path}
	_ = unix.Send(g.daemon, h.encode(), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

// messages reads the daemon's messages. gone means that its end of the socket is closed.
func (g *gate) messages(buf []byte) (gone bool, err error) {
	for {
		n, _, err := unix.Recvfrom(g.daemon, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return false, nil
		case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("read from the daemon: %w", err)
		}
		g.lastHeard = time.Now()
		switch buf[0] {
		case kindWatch:
			g.uids = decodeWatch(buf[:n])
			g.marks.set(len(g.uids) > 0)
		case kindGo:
			if n == 9 {
				g.releaseNumber(binary.LittleEndian.Uint64(buf[1:]))
			}
		case kindPing:
			_ = unix.Send(g.daemon, g.counts.encode(), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		}
	}
}

// raisePriority keeps the answering thread from waiting for other threads, because everybody
// waits for it. Since Linux 6.6 nice alone does not do that: a running thread is not
// interrupted before its slice is over. Since 6.12 a shorter slice interrupts it (PREEMPT_SHORT
// in kernel/sched/features.h). Real time would, too, but a spinning runtime must not keep out
// the thread for which it waits.
func raisePriority() {
	const slice = 100 * time.Microsecond // the shortest possible
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Nice: -20, Runtime: uint64(slice)}
	if unix.SchedSetAttr(0, &attr, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	}
}
