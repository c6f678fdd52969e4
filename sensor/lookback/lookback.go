// Package lookback keeps the last system calls of chosen users in memory, and gives those that
// explain a packet.
//
// BPF programs on tracepoints, sys_exit above all, write them into a ring for each processor that
// forgets the oldest (ring.go). Nobody reads the ring before a packet matches a rule. Nothing is
// pinned: everything is gone with the process.
package lookback

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"culprit/internal/kernel"
)

// Config says what to record.
type Config struct {
	All     bool     // all users but root
	Users   []uint32 // if not All
	Strings int      // bytes kept of each string and buffer
	Memory  int      // bytes of the ring, for all processors together
}

// A Recorder records until it is closed.
type Recorder struct {
	ring  *ring
	progs []*ebpf.Program
	taps  []link.Link
	since uint64 // when it began: CLOCK_MONOTONIC, in nanoseconds
	boot  uint64 // what CLOCK_BOOTTIME is ahead of it
}

// Open loads the programs and attaches them. The caller closes the Recorder.
func Open(c Config) (*Recorder, error) {
	layout, err := readLayout()
	if err == nil {
		err = kernel.InitialPIDs()
	}
	if err != nil {
		return nil, fmt.Errorf("open the look-back: %w", err)
	}
	return open(c, layout)
}

func open(c Config, layout *layout) (_ *Recorder, err error) {
	r := new(Recorder)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the look-back: %w", err), r.Close())
		}
	}()
	if r.ring, err = newRing(c); err != nil {
		return nil, err
	}
	r.since = clock(unix.CLOCK_MONOTONIC)
	r.boot = clock(unix.CLOCK_BOOTTIME) - clock(unix.CLOCK_MONOTONIC)
	for _, spec := range programs(layout, r.ring) {
		if err := r.attach(spec); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// attach loads a program and attaches it.
func (r *Recorder) attach(spec *ebpf.ProgramSpec) error {
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return fmt.Errorf("load the program %s: %w", spec.Name, err)
	}
	tap, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		p.Close()
		return fmt.Errorf("attach to the tracepoint %s: %w", spec.AttachTo, err)
	}
	r.progs, r.taps = append(r.progs, p), append(r.taps, tap)
	return nil
}

// Recorded returns how many calls were recorded so far. The Recorder may be nil.
func (r *Recorder) Recorded() (n uint64) {
	for cpu := 0; r != nil && cpu < r.ring.cpuCount; cpu++ {
		n += r.ring.state(cpu, stateRecords)
	}
	return n
}

// Records reports whether calls of a user are recorded.
func (r *Recorder) Records(uid uint32) bool {
	c := &r.ring.config
	return c.All && uid != 0 || !c.All && slices.Contains(c.Users, uid)
}

// Close ends the recording and forgets everything.
func (r *Recorder) Close() error {
	var errs []error
	for _, tap := range r.taps {
		errs = append(errs, tap.Close())
	}
	for _, p := range r.progs {
		errs = append(errs, p.Close())
	}
	if r.ring != nil {
		errs = append(errs, r.ring.close())
	}
	return errors.Join(errs...)
}

func clock(id int32) uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(id, &now)
	return uint64(now.Nano())
}

// ahead returns what the calendar is ahead of CLOCK_MONOTONIC, in nanoseconds. It reads the clocks
// again if something came in between.
func ahead() int64 {
	const near, tries = 100_000, 10
	for i := 1; ; i++ {
		before := clock(unix.CLOCK_MONOTONIC)
		wall := clock(unix.CLOCK_REALTIME)
		if clock(unix.CLOCK_MONOTONIC)-before < near || i == tries {
			return int64(wall - before)
		}
	}
}

// Holds returns how many calls are in the ring now.
func (r *Recorder) Holds() (n int) {
	r.walk(new(Story), 0, func([]byte) bool { n++; return false }, func([]byte) {})
	return n
}
