package sensor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/stopped"
)

// Nobody may stay stopped because the daemon is killed or hangs. So a process of its own, which
// does nothing else, lets everybody go on: at the deadline, and when the daemon's end of their
// pipe closes. It is the one that renews the lease, when the daemon pings: so the program in the
// kernel stops nobody if either of them is dead or hangs. The daemon sees by the lease that the
// thawer turns. If the thawer is killed, the daemon lets them go on and starts another; if both are
// killed at once, the next culprit does (see left.go).

// leaseFor is how long a ping lets the program stop processes.
const leaseFor = 2 * time.Second

// pingEvery is how often the daemon pings, and maxOwed how many renewals a thawer may owe.
const (
	pingEvery = 500 * time.Millisecond
	maxOwed   = 2
)

// The descriptors that the thawer inherits.
const (
	thawPings = 3 + iota
	thawReady
	thawStopped
	thawStops
	thawLease
)

// A thawer lets stopped processes go on. Its one thread owns it.
type thawer struct {
	fs       proc.FS
	stopped  *ebpf.Map
	stops    *ringbuf.Reader
	wakes    *wakes
	lease    *ebpf.Map
	deadline time.Duration
	pins     []*pin
}

// Thaw is the thawer: it runs until the daemon's end of the pipe closes. deadline is the longest
// that a process is stopped. pinned are what to remove from BPF file systems then, and mounted
// what to unmount for each of them; empty: nothing.
func Thaw(deadline time.Duration, pinned, mounted []string) (err error) {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	_ = unix.Setpriority(unix.PRIO_PGRP, 0, -20) // all threads: somebody stands still
	t := &thawer{fs: proc.Default, deadline: deadline}
	for i, file := range pinned[:min(len(pinned), len(mounted))] {
		t.pins = append(t.pins, &pin{file: file, mounted: mounted[i]})
	}
	if t.stopped, err = ebpf.NewMapFromFD(thawStopped); err != nil {
		return fmt.Errorf("use the map of stopped processes: %w", err)
	}
	stops, err := ebpf.NewMapFromFD(thawStops)
	if err != nil {
		return fmt.Errorf("use the ring of stopped processes: %w", err)
	}
	if t.lease, err = ebpf.NewMapFromFD(thawLease); err != nil {
		return fmt.Errorf("use the lease: %w", err)
	}
	if t.stops, err = ringbuf.NewReader(stops); err != nil {
		return fmt.Errorf("read the ring of stopped processes: %w", err)
	}
	if t.wakes, err = newWakes(thawPings, thawStops); err != nil {
		return err
	}
	defer t.wakes.close()
	err = t.loop()
	if e := endLease(t.fs, t.lease, t.stopped); err != nil || e != nil {
		return errors.Join(err, e) // the daemon starts another, which needs the pins
	}
	return removeAll(t.pins)
}

// loop lets processes go on at their deadline, until the daemon has gone.
func (t *thawer) loop() error {
	pings := make([]byte, 64)
	for ready := false; ; {
		woken, err := t.wakes.until(t.thaw())
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if slices.Contains(woken, thawStops) {
			t.drain()
		}
		if !slices.Contains(woken, thawPings) {
			continue
		}
		n, err := unix.Read(thawPings, pings)
		if n == 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return nil
		}
		if err := t.renew(leaseFor); err != nil {
			return err
		}
		if !ready { // somebody waits for it
			ready = true
			_, _ = unix.Write(thawReady, pings[:1]) // there is room; if nobody reads, nobody waits
		}
	}
}

// renew renews the lease.
func (t *thawer) renew(d time.Duration) error {
	if err := t.lease.Put(uint32(0), uint64(monotonic()+d.Nanoseconds())); err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	return nil
}

// drain empties the ring, which only wakes us: the map has all that are stopped.
func (t *thawer) drain() {
	var rec ringbuf.Record
	t.stops.SetDeadline(time.Unix(1, 0))
	for t.stops.AvailableBytes() > 0 && t.stops.ReadInto(&rec) == nil {
	}
}

// thaw lets all go on whose deadline has passed. It returns the next deadline, if there is one.
func (t *thawer) thaw() (next time.Time) {
	each(t.stopped, func(h held) {
		until := h.since.Add(t.deadline)
		switch {
		case !time.Now().Before(until):
			h.resume(t.fs, t.stopped)
		case next.IsZero() || until.Before(next):
			next = until
		}
	})
	return next
}

// endLease ends the lease, and lets all stopped processes go on.
func endLease(fs proc.FS, lease, stopped *ebpf.Map) error {
	if err := lease.Put(uint32(0), uint64(0)); err != nil {
		return fmt.Errorf("end the lease: %w", err)
	}
	// A program that runs may have seen the lease, and be about to stop one more. This waits
	// until all that ran have ended (synchronize_rcu in kernel/sched/membarrier.c).
	const global = 1 << 0 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		time.Sleep(10 * time.Millisecond) // with nohz_full= there is no such call
	}
	for each(stopped, func(h held) { h.resume(fs, stopped) }) > 0 {
	}
	return nil
}

// held is a stopped process.
type held struct {
	number uint64
	key    uint32 // in the map of the stopped
	by     int    // why it was stopped
	id     proc.ID
	uid    uint32
	since  time.Time
}

// resume lets the process go on, and takes it off the map. First the signal: whoever of us is killed after
// that leaves nobody stopped. Until it is off the map it is not stopped again; if another of us was
// quicker, and it was, what comes off the map is that stop, which then ends here as well.
func (h held) resume(fs proc.FS, m *ebpf.Map) {
	stopped.Resume(fs, h.id)
	value := make([]byte, stopSize)
	switch err := m.LookupAndDelete(h.key, &value); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
	case err != nil: // before Linux 5.14
		_ = m.Delete(h.key)
		stopped.Resume(fs, h.id)
	case decodeStop(value).number != h.number:
		stopped.Resume(fs, decodeStop(value).id)
	}
}

// each calls do for each stopped process, and returns how many there were.
func each(m *ebpf.Map, do func(held)) int {
	all := map[uint32]held{}
	for range 10 { // it begins again if others change the map meanwhile
		var key uint32
		value := make([]byte, stopSize)
		entries := m.Iterate()
		for entries.Next(&key, &value) {
			h := decodeStop(value)
			h.key = key // another culprit may have chosen it otherwise
			all[key] = h
		}
		if entries.Err() == nil {
			break
		}
	}
	for _, h := range all {
		do(h)
	}
	return len(all)
}
