// Package sensor makes the kernel say who sends a packet that a rule matched, while it is sent,
// and stop that process before it goes on.
//
// iptables decides which packets; a BPF program, assembled here for the running kernel, runs for
// these and no others in the context of their sender. There are three ways to get there,
// each in a file of its own: [WayNFLog], [WayRule] and [WayMark]. [Open] takes the first that works
// here, by trying it.
//
// Who is stopped, and who lets go on: see stop.go and [Thaw].
package sensor

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// Config says what the sensor is to do.
type Config struct {
	Ways   []Way  // to try, in this order
	Mark   uint32 // the bit of the packet's mark, in the way "mark"
	Name   string // of the instance, which is that of its chain
	Rules  []Rule
	Legacy bool    // the rules are those of iptables-legacy
	Freeze bool    // stop senders
	Hold   bool    // be able to hold programs at their start, see [Sensor.Hold]
	Others *Others // see packets of other network namespaces; nil: do not
	// AtOnce is how many processes may be stopped at a time.
	AtOnce int
	// Spared are users whose processes are never stopped.
	Spared []uint32
	// Fits says why iptables rules that name a pin, or else set a mark, cannot be used here. It is
	// asked about the ways "rule" and "mark"; nil: they can.
	Fits func(pin string, mark uint32) error
}

// A Rule is one whose packets are looked at.
type Rule struct {
	Name string // and NFLOG prefix
	// Filtered says that senders are stopped only if the filter of lists has decided their packet: see [Sensor.Decided].
	Filtered bool
}

// What the programs know of a rule.
const (
	rulePlain    = 1
	ruleFiltered = 2
)

// A Sensor runs in the kernel until it is closed.
type Sensor struct {
	config  Config
	layout  *layout
	maps    *maps
	way     Way
	freezes bool
	why     []Unusable
	prog    *ebpf.Program
	tap     link.Link // of a tracepoint
	pin     *pin
	sends   *ringbuf.Reader
	starts  *starts // nil: programs cannot be held
	noHold  error   // why
	egress  *egress // nil: packets of other network namespaces are not seen
	// noOthers says why.
	noOthers error
	leased   chan struct{} // closed by the goroutine of Run
	counts   counts
}

// Open loads the program of the first way that works, for the network namespace of the calling
// thread. If none does, the sensor's way is [WayNone], and [Sensor.Unusable] says why. It sees
// nothing before [Sensor.Start].
func Open(c Config) (*Sensor, error) {
	s := &Sensor{config: c, way: WayNone, leased: make(chan struct{})}
	if len(c.Ways) == 0 && !c.Hold && c.Others == nil {
		return s, nil
	}
	prepared := s.prepare()
	for _, w := range c.Ways {
		err := prepared
		if err == nil {
			err = s.try(w)
		}
		if err == nil {
			s.way = w
			break
		}
		s.why = append(s.why, Unusable{w, err})
	}
	switch {
	case !c.Hold:
	case prepared != nil:
		s.noHold = prepared
	default:
		s.starts, s.noHold = newStarts(s.layout, s.maps)
	}
	switch {
	case c.Others == nil:
	case prepared != nil:
		s.noOthers = prepared
	default:
		s.egress, s.noOthers = newEgress(s, *c.Others)
	}
	if s.way == WayNone && s.starts == nil && s.egress == nil {
		return s, s.close()
	}
	return s, s.fill()
}

// prepare makes what all ways need.
func (s *Sensor) prepare() (err error) {
	if s.layout, err = readLayout(); err != nil {
		return err
	}
	if s.maps, err = newMaps(s.config.AtOnce); err != nil {
		return err
	}
	s.sends, err = ringbuf.NewReader(s.maps.sends)
	return err
}

// fill tells the programs what they have to know.
func (s *Sensor) fill() error {
	err := s.maps.ours.Put(uint32(os.Getpid()), uint32(1))
	err = errors.Join(err, s.SetRules(s.config.Rules))
	return errors.Join(err, s.Spare(s.config.Spared))
}

// CanFreeze reports whether the sensor can stop processes here.
func (s *Sensor) CanFreeze() bool { return s.way != WayNone && s.freezes }

// Freezes reports whether the sensor can stop processes, and is to.
func (s *Sensor) Freezes() bool { return s.CanFreeze() && s.config.Freeze }

// StopsAny reports whether the sensor stops any process.
func (s *Sensor) StopsAny() bool {
	return s.Freezes() || s.starts != nil || s.FreezesOthers()
}

// Start makes the sensor see the packets of other network namespaces, and those whose NFLOG messages go to the socket with this cookie
// (SO_COOKIE, man 7 socket). The rules must not be installed before it.
func (s *Sensor) Start(cookie uint64) (err error) {
	if s.egress != nil {
		if err := s.egress.attach(); err != nil {
			return err
		}
	}
	switch s.way {
	case WayNone:
		return nil
	case WayRule:
		return s.pin.set(s.prog)
	case WayNFLog:
		if err := s.load(s.way, cookie); err != nil {
			return err
		}
	}
	s.tap, err = attach(s.way, s.prog)
	return err
}

// SetRules replaces the rules whose packets are looked at.
func (s *Sensor) SetRules(rules []Rule) error {
	if s.maps == nil {
		return nil
	}
	var old [][ruleKey]byte
	var key [ruleKey]byte
	var value uint32
	for all := s.maps.rules.Iterate(); all.Next(&key, &value); {
		old = append(old, key)
	}
	var now [][ruleKey]byte
	for _, r := range rules {
		var key [ruleKey]byte
		copy(key[:ruleKey-1], r.Name)
		now = append(now, key)
		value := uint32(rulePlain)
		if r.Filtered {
			value = ruleFiltered
		}
		if err := s.maps.rules.Put(key, value); err != nil {
			return fmt.Errorf("tell the sensor of the rule %s: %w", r.Name, err)
		}
	}
	for _, key := range old {
		if !slices.Contains(now, key) {
			_ = s.maps.rules.Delete(key) // what is gone is gone
		}
	}
	return nil
}

// Decided is where the filter of lists says which packets it decided. It is nil if the sensor does not look for that: it
// does in the way [WayNFLog], where it sees only what the filter lets pass.
func (s *Sensor) Decided() *ebpf.Map {
	if s.way != WayNFLog {
		return nil
	}
	return s.maps.decided
}

// Spare adds users whose processes are never stopped.
func (s *Sensor) Spare(uids []uint32) error {
	if s.maps == nil {
		return nil
	}
	for _, uid := range uids {
		if err := s.maps.spared.Put(uid, uint32(1)); err != nil {
			return fmt.Errorf("tell the sensor to spare the user %d: %w", uid, err)
		}
	}
	return nil
}

// Lost returns how many packets found no room in the ring since the start.
func (s *Sensor) Lost() uint64 {
	var n uint64
	if s.maps != nil {
		_ = s.maps.lost.Lookup(uint32(0), &n)
	}
	return n
}

// Close ends the sensor. Nobody is stopped any more; those that are stopped are their
// keeper's.
func (s *Sensor) Close() error { return s.close() }

func (s *Sensor) close() error {
	var errs []error
	if s.starts != nil {
		errs = append(errs, s.starts.close())
		s.starts = nil
	}
	if s.egress != nil {
		errs = append(errs, s.egress.close())
		s.egress = nil
	}
	if s.tap != nil {
		errs = append(errs, s.tap.Close())
	}
	if s.pin != nil {
		errs = append(errs, s.pin.remove())
	}
	s.unload()
	if s.sends != nil {
		errs = append(errs, s.sends.Close())
	}
	if s.maps != nil {
		s.maps.close()
		s.maps = nil
	}
	return errors.Join(errs...)
}
