package sensor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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
	conn, cmd, err := s.startThawer(deadline, pins)
	if err != nil {
		return fmt.Errorf("start the thawer: %w", err)
	}
	answers := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answer := make([]byte, 1)
		for n := 1; n > 0; n, _ = conn.Read(answer) {
			select {
			case answers <- struct{}{}:
			default:
			}
		}
	}()
	<-answers // the first is the goroutine's own
	err = s.ping(ctx, conn, answers, ended)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	s.endLease()
	conn.Close() // ends a healthy thawer
	kill := time.AfterFunc(time.Second, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	kill.Stop()
	<-ended
	s.endLease() // it may have renewed the lease once more
	return err
}

// ping pings the thawer until it fails or the context ends. With each answer it has renewed the
// lease.
func (s *Sensor) ping(ctx context.Context, conn net.Conn, answers, ended <-chan struct{}) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	owed := 0
	for {
		if owed++; owed > maxOwed {
			return fmt.Errorf("the thawer has not answered for %s", maxOwed*pingEvery)
		}
		conn.SetWriteDeadline(time.Now().Add(pingEvery))
		if _, err := conn.Write([]byte{0}); err != nil {
			return fmt.Errorf("ping the thawer: %w", err)
		}
		for waiting := true; waiting; {
			select {
			case <-answers:
				owed = 0
				s.lease()
			case <-ticker.C:
				waiting = false
			case <-ended:
				return errors.New("the thawer has ended")
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// lease notes that processes are stopped.
func (s *Sensor) lease() {
	select {
	case <-s.leased:
	default:
		close(s.leased)
	}
}

// startThawer starts this program as the thawer, with one end of a socket pair: when we die that
// closes, and the thawer lets everybody go on.
func (s *Sensor) startThawer(deadline time.Duration, pins []*pin) (net.Conn, *exec.Cmd, error) {
	args := []string{"culprit", "thaw", "--deadline", deadline.String()}
	if s.pin != nil {
		pins = append(slices.Clip(pins), s.pin)
	}
	for _, p := range pins {
		args = append(args, "--pin", p.file, "--mount", p.mounted)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "thawer"), os.NewFile(uintptr(pair[1]), "thawer")
	defer ours.Close()
	files := []*os.File{theirs}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, m := range []*ebpf.Map{s.maps.stopped, s.maps.stops, s.maps.lease} {
		fd, err := syscall.Dup(m.FD())
		if err != nil {
			return nil, nil, err
		}
		files = append(files, os.NewFile(uintptr(fd), m.String()))
	}
	cmd := &exec.Cmd{
		// Not by its path, which may be another culprit's after an upgrade.
		Path: "/proc/self/exe", Args: args, Stderr: os.Stderr, ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, // a terminal's Ctrl-C must not reach it
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, fmt.Errorf("use the socket: %w", err)
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, cmd, nil
}

// endLease ends the lease, and lets everybody go on.
func (s *Sensor) endLease() { _ = endLease(proc.Default, s.maps.lease, s.maps.stopped) }

// Go lets a stopped process go on, by the number of its hold. It returns how long the process stood
// still, and false if it has gone on already.
func (s *Sensor) Go(number uint64) (stood time.Duration, was bool) {
	value := make([]byte, stopSize)
	if !s.StopsAny() || s.maps.stopped.Lookup(uint32(number&holdPID), &value) != nil {
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
	if s.StopsAny() && (s.maps.stopped.Lookup(uint32(id.PID), &value) != nil || decodeStop(value).number != number) {
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
	return s.maps.stopped.Lookup(uint32(id.PID), &value) == nil && decodeStop(value).id == id
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
