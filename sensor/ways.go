package sensor

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"culprit/internal/kernel"
)

// Way is how the program comes to run for a packet.
type Way string

// The ways, in the order in which they are tried.
const (
	WayNFLog Way = "nflog" // when the NFLOG message about the packet is handed over
	WayRule  Way = "rule"  // as a match of the iptables rule
	WayMark  Way = "mark"  // when the packet, marked by the iptables rule, is given to its device
	WayNone  Way = "none"  // there is no sensor
)

// Ways lists the ways that can be tried, best first.
func Ways() []Way { return []Way{WayNFLog, WayRule, WayMark} }

// Unusable says why a way does not work here.
type Unusable struct {
	Way Way
	Err error
}

// try loads the program of a way, and attaches it to nothing that it would see.
func (s *Sensor) try(w Way) error {
	if err := s.load(w, 0); err != nil {
		return err
	}
	var err error
	if w == WayRule {
		err = s.tryPin()
	} else {
		var tap link.Link
		if tap, err = attach(w, s.prog); err == nil {
			err = tap.Close()
		}
	}
	if err == nil && w == WayMark {
		err = s.fits("", s.config.Mark)
	}
	// Last, so that it is the reason only if it is the only one.
	if err == nil {
		err = kernel.InitialPIDs()
	}
	if err != nil {
		s.unload()
		if s.pin != nil {
			err = errors.Join(err, s.pin.remove())
			s.pin = nil
		}
	}
	return err
}

// tryPin pins the program for a moment.
func (s *Sensor) tryPin() (err error) {
	p, err := newPin(rulePin(s.config.Name))
	if err != nil {
		return err
	}
	if err = p.set(s.prog); err == nil {
		err = s.fits(p.path(), 0)
	}
	if err != nil {
		return errors.Join(err, p.remove())
	}
	s.pin = p
	return s.prog.Unpin()
}

func (s *Sensor) fits(pin string, mark uint32) error {
	if s.config.Fits == nil {
		return nil
	}
	return s.config.Fits(pin, mark)
}

// load loads the program of a way. cookie is that of the socket that reads NFLOG, if it matters.
func (s *Sensor) load(w Way, cookie uint64) (err error) {
	s.unload()
	s.freezes = true
	switch w {
	case WayNFLog:
		s.prog, err = ebpf.NewProgram(nflogProgram(s.layout, s.maps, s.config.Freeze, cookie, s.config.Legacy))
	case WayRule:
		// Socket filters can stop a process since Linux 6.16.
		s.prog, err = ebpf.NewProgram(ruleProgram(s.layout, s.maps, true))
		if s.freezes = err == nil; s.freezes && !s.config.Freeze {
			s.unload()
		}
		if s.prog == nil || err != nil {
			s.prog, err = ebpf.NewProgram(ruleProgram(s.layout, s.maps, false))
		}
	case WayMark:
		var ns unix.Stat_t
		if err = unix.Stat("/proc/thread-self/ns/net", &ns); err == nil {
			s.prog, err = ebpf.NewProgram(markProgram(s.layout, s.maps, s.config.Freeze, s.config.Mark, uint32(ns.Ino)))
		}
	default:
		err = fmt.Errorf("there is no way %q", w)
	}
	if err != nil {
		s.prog = nil
		return fmt.Errorf("load its program: %w", err)
	}
	return nil
}

func (s *Sensor) unload() {
	if s.prog != nil {
		s.prog.Close()
		s.prog = nil
	}
}

// attach attaches the program of a way to its tracepoint.
func attach(w Way, p *ebpf.Program) (link.Link, error) {
	name := "sk_data_ready"
	if w == WayMark {
		name = "net_dev_queue"
	}
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: p})
	if err != nil {
		return nil, fmt.Errorf("attach to the tracepoint %s: %w", name, err)
	}
	return l, nil
}

// Way returns the way that works, or [WayNone].
func (s *Sensor) Way() Way { return s.way }

// Unusable says why the ways before Way do not work here.
func (s *Sensor) Unusable() []Unusable { return s.why }

// Pin returns the path of the pinned program that the iptables rules must name, in the way
// [WayRule]; otherwise it is empty.
func (s *Sensor) Pin() string {
	if s.way != WayRule {
		return ""
	}
	return s.pin.path()
}

// Mark returns the bit that the iptables rules must set, in the way [WayMark]; otherwise it
// is 0.
func (s *Sensor) Mark() uint32 {
	if s.way != WayMark {
		return 0
	}
	return s.config.Mark
}
