package sensor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/stopped"
)

// Run keeps a thawer running until the context ends, and with it the lease: only while both run,
// processes are stopped. down is told each time that a thawer failed.
func (s *Sensor) Run(ctx context.Context, deadline time.Duration, down func(error)) {
	if !s.StopsAny() {
		<-ctx.Done()
		return
	}
	pins, err := s.record()
	defer func() { _ = removeAll(pins) }()
	if err != nil { // nobody is stopped
		down(err)
		<-ctx.Done()
		return
	}
	for ctx.Err() == nil {
		began := time.Now()
		err := s.keep(ctx, deadline, pins)
		if ctx.Err() != nil {
			return
		}
		down(err)
		select { // do not start one after the other if it cannot work
		case <-time.After(time.Until(began.Add(time.Second))):
		case <-ctx.Done():
		}
	}
}

// Leased is closed when processes are stopped, for the first time. [Sensor.Run] must run.
func (s *Sensor) Leased() <-chan struct{} { return s.leased }

// keep runs one thawer until it fails or the context ends.
func (s *Sensor) keep(ctx context.Context, deadline time.Duration, pins []*pin) error {
	t, err := s.startThawer(deadline, pins)
	if err != nil {
		return fmt.Errorf("start the thawer: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answer := make([]byte, 1)
		if n, _ := t.ready.Read(answer); n > 0 { // it has the lease
			s.lease()
			_, _ = t.ready.Read(answer) // which says no more
		}
	}()
	err = s.ping(ctx, t.pings, ended)
	if err != nil {
		_ = t.cmd.Process.Kill()
	}
	s.endLease()
	t.pings.Close() // ends a healthy thawer
	kill := time.AfterFunc(time.Second, func() { _ = t.cmd.Process.Kill() })
	_ = t.cmd.Wait()
	kill.Stop()
	t.ready.Close()
	<-ended
	s.endLease() // it may have renewed the lease once more
	return err
}

// ping pings the thawer until it fails or the context ends. It answers by renewing the lease:
// a message would wake us once more each time.
func (s *Sensor) ping(ctx context.Context, pings *os.File, ended <-chan struct{}) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	owed, seen := 0, s.leasedUntil()
	for {
		if owed++; owed > maxOwed {
			return fmt.Errorf("the thawer has not answered for %s", maxOwed*pingEvery)
		}
		if _, err := pings.Write([]byte{0}); err != nil { // there is always room for what it may owe
			return fmt.Errorf("ping the thawer: %w", err)
		}
		select {
		case <-ticker.C:
		case <-ended:
			return errors.New("the thawer has ended")
		case <-ctx.Done():
			return nil
		}
		if until := s.leasedUntil(); until != seen {
			owed, seen = 0, until
		}
	}
}

// leasedUntil returns when the lease ends (CLOCK_MONOTONIC).
func (s *Sensor) leasedUntil() (until uint64) {
	_ = s.maps.lease.Lookup(uint32(0), &until) // an array of one: it is always there
	return until
}

// lease notes that processes are stopped.
func (s *Sensor) lease() {
	select {
	case <-s.leased:
	default:
		close(s.leased)
	}
}

// A helper is a thawer as the daemon sees it.
type helper struct {
	cmd   *exec.Cmd
	pings *os.File // when it is closed, by our death too, the thawer lets everybody go on
	ready *os.File // tells of the first lease, and ends with the thawer
}

// startThawer starts this program as the thawer. There are two pipes and no socket: of a socket the
// kernel would tell us each time that the thawer has read a ping.
func (s *Sensor) startThawer(deadline time.Duration, pins []*pin) (_ *helper, err error) {
	args := []string{"culprit", "thaw", "--deadline", deadline.String()}
	if s.pin != nil {
		pins = append(slices.Clip(pins), s.pin)
	}
	for _, p := range pins {
		args = append(args, "--pin", p.file, "--mount", p.mounted)
	}
	t := &helper{}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			t.pings.Close()
			t.ready.Close()
		}
	}()
	pings, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	theirs, t.pings = append(theirs, pings), w
	r, ready, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	theirs, t.ready = append(theirs, ready), r
	for _, m := range []*ebpf.Map{s.maps.stopped, s.maps.stops, s.maps.lease} {
		fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("duplicate a descriptor: %w", err)
		}
		theirs = append(theirs, os.NewFile(uintptr(fd), m.String()))
	}
	t.cmd = &exec.Cmd{
		// Not by its path, which may be another culprit's after an upgrade.
		Path: "/proc/self/exe", Args: args, Stderr: os.Stderr, ExtraFiles: theirs,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, // a terminal's Ctrl-C must not reach it
	}
	return t, t.cmd.Start()
}

// endLease ends the lease, and lets everybody go on.
func (s *Sensor) endLease() { _ = endLease(proc.Default, s.maps.lease, s.maps.stopped) }

// Go lets a stopped process go on, by the number of its hold. It returns how long the process stood
// still, and false if it has gone on already.
func (s *Sensor) Go(number uint64) (stood time.Duration, was bool) {
	value := make([]byte, stopSize)
	if !s.StopsAny() || s.maps.stopped.Lookup(keyOf(number), &value) != nil {
		return 0, false
	}
	h := decodeStop(value)
	if h.number != number {
		return 0, false
	}
	h.resume(proc.Default, s.maps.stopped)
	return time.Since(h.since), true
}

// Left lets a process go on that a tracer has left stopped, if its hold is over: who let it go on
// came too soon.
func (s *Sensor) Left(id proc.ID, number uint64) {
	value := make([]byte, stopSize)
	if s.StopsAny() && (s.maps.stopped.Lookup(keyOf(number), &value) != nil || decodeStop(value).number != number) {
		stopped.Resume(proc.Default, id)
	}
}

// Claim makes the kernel stop a process no more, as a strace will be on it in a moment, and
// reports whether it has stopped it already: strace must not attach before that has taken effect.
func (s *Sensor) Claim(id proc.ID) (isStopped bool) {
	if !s.StopsAny() {
		return false
	}
	value := markOf(id)
	if s.maps.lately.Put(uint32(id.PID), value) != nil {
		return true // whatever it is, to wait is safe
	}
	for _, by := range entries {
		if s.maps.stopped.Lookup(entryOf(by, uint32(id.PID)), &value) == nil && decodeStop(value).id == id {
			return true
		}
	}
	return false
}

// AtStart reports whether a process was stopped at its start, and not at a packet.
func (s *Sensor) AtStart(number uint64) bool { return number>>holdByBit&holdBy != holdByPacket }

// Holds reports whether a hold is one of the sensor's. Those of the gate have other numbers.
func (s *Sensor) Holds(number uint64) bool { return number&holdBit != 0 }

// markOf is the entry for a process that is not stopped, from now on.
func markOf(id proc.ID) []byte {
	value := make([]byte, stopSize)
	binary.NativeEndian.PutUint64(value[stopStart:], id.Start*uint64(perTick))
	binary.NativeEndian.PutUint64(value[stopTime:], uint64(monotonic()))
	return value
}
