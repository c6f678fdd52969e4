package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"culprit/internal/event"
	"culprit/internal/kernel"
	"culprit/internal/proc"
)

// ErrClosed is returned when the sensor was closed.
var ErrClosed = errors.New("the sensor is closed")

// starts hold programs at their start (see start.go).
type starts struct {
	maps       *maps
	exec, exit *ebpf.Program
	taps       []link.Link // while programs of anybody are held
	held       *ringbuf.Reader
	users      map[uint32]bool
}

// A Start is a process that is to be stopped before its first instruction, or when it has become a
// captured user.
type Start struct {
	Number uint64 // of the hold; 0: it is not stopped, as too many are
	ID     proc.ID
	UID    uint32 // that is captured
	Cgroup uint64 // of v2
	How    string // a Found constant of package event
	At     time.Time
}

// newStarts loads the programs, and attaches them for a moment to see that this works.
func newStarts(l *layout, m *maps) (s *starts, err error) {
	s = &starts{maps: m, users: map[uint32]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	if s.exec, err = ebpf.NewProgram(execProgram(l, m)); err != nil {
		return s, fmt.Errorf("load the program for execve: %w", err)
	}
	if s.exit, err = ebpf.NewProgram(exitProgram(l, m)); err != nil {
		return s, fmt.Errorf("load the program for fork and setuid: %w", err)
	}
	if s.held, err = ringbuf.NewReader(m.starts); err != nil {
		return s, err
	}
	if err = s.attach(); err != nil {
		return s, err
	}
	if err = s.detach(); err != nil {
		return s, err
	}
	return s, kernel.InitialPIDs()
}

func (s *starts) attach() error {
	for _, t := range []struct {
		point string
		prog  *ebpf.Program
	}{{"sched_process_exec", s.exec}, {"sys_exit", s.exit}} {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: t.point, Program: t.prog})
		if err != nil {
			return errors.Join(fmt.Errorf("attach to the tracepoint %s: %w", t.point, err), s.detach())
		}
		s.taps = append(s.taps, l)
	}
	return nil
}

func (s *starts) detach() error {
	var errs []error
	for _, l := range s.taps {
		errs = append(errs, l.Close())
	}
	s.taps = nil
	return errors.Join(errs...)
}

func (s *starts) close() error {
	err := s.detach()
	for _, p := range []*ebpf.Program{s.exec, s.exit} {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
	}
	if s.held != nil {
		err = errors.Join(err, s.held.Close())
	}
	return err
}

// CanHold reports whether programs can be held at their start; if not, NoHold says why.
func (s *Sensor) CanHold() bool { return s.starts != nil }

// NoHold says why programs cannot be held, or is nil.
func (s *Sensor) NoHold() error { return s.noHold }

// Hold sets the users whose programs are held at their start: each is stopped until [Sensor.Go]
// is called, or its deadline. With none, nothing is attached any more and nobody pays for it.
// To attach and to detach can take the kernel 0.1 s. One goroutine calls it; [Sensor.Run] must run.
func (s *Sensor) Hold(uids []uint32) error {
	st := s.starts
	if st == nil {
		return nil
	}
	var errs []error
	want := map[uint32]bool{}
	for _, uid := range uids {
		if want[uid] = true; !st.users[uid] {
			if err := st.maps.users.Put(uid, uint32(1)); err != nil {
				errs = append(errs, fmt.Errorf("hold programs of the user %d: %w", uid, err))
			}
		}
	}
	for uid := range st.users {
		if !want[uid] {
			_ = st.maps.users.Delete(uid) // what is gone is gone
		}
	}
	st.users = want
	switch {
	case len(want) > 0 && st.taps == nil:
		errs = append(errs, st.attach())
	case len(want) == 0:
		errs = append(errs, st.detach())
	}
	return errors.Join(errs...)
}

// NextStart waits for the next process that is held. It fails if the sensor was closed, or because
// of [Sensor.Wake]. One goroutine calls it.
func (s *Sensor) NextStart() (Start, error) {
	if s.starts == nil {
		return Start{}, ErrClosed
	}
	rec, err := s.starts.held.Read()
	switch {
	case errors.Is(err, os.ErrClosed):
		return Start{}, ErrClosed
	case err != nil:
		return Start{}, fmt.Errorf("read who is held: %w", err)
	case len(rec.RawSample) < startSize:
		return Start{}, fmt.Errorf("read who is held: record of %d bytes, want %d", len(rec.RawSample), startSize)
	}
	h := decodeStop(rec.RawSample)
	how := map[int]string{holdByExec: event.FoundExec, holdByFork: event.FoundFork, holdByUID: event.FoundUID}
	if h.number&holdBit == 0 { // too many were stopped
		h.number = 0
	}
	return Start{Number: h.number, ID: h.id, UID: h.uid, Cgroup: binary.NativeEndian.Uint64(rec.RawSample[startCgroup:]), How: how[h.by], At: h.since}, nil
}

// Wake makes a [Sensor.NextStart] that waits return.
func (s *Sensor) Wake() {
	if s.starts != nil {
		_ = s.starts.held.Flush() // fails if it is closed, and then nobody waits
	}
}

// Leave makes the kernel hold a process no more that is not to be traced, nor its children, for a
// minute, as long as they belong to the same user, are in the same cgroup, and do not become other programs.
func (s *Sensor) Leave(id proc.ID, uid uint32, cgroup uint64) {
	if s.starts == nil {
		return
	}
	value := markOf(id)
	binary.NativeEndian.PutUint32(value[stopUID:], uid)
	binary.NativeEndian.PutUint64(value[leftCgroup:], cgroup)
	_ = s.maps.left.Put(uint32(id.PID), value) // otherwise they are asked about again
}

// Reconsider undoes all of [Sensor.Leave]: others are wanted now.
func (s *Sensor) Reconsider() {
	if s.starts == nil {
		return
	}
	var pids []uint32
	var pid uint32
	var value [stopSize]byte
	for all := s.maps.left.Iterate(); all.Next(&pid, &value); {
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		_ = s.maps.left.Delete(pid) // what is gone is gone
	}
}

// Unheld returns how many programs were not held, since the start: as many were stopped as
// allowed, or the daemon was too far behind.
func (s *Sensor) Unheld() (n uint64) {
	if s.starts != nil {
		_ = s.maps.unheld.Lookup(uint32(0), &n)
	}
	return n
}
