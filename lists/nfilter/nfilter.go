// Package nfilter is the filter on our NFLOG socket: a BPF program that looks up the questions of the rules with lists,
// so that of all packets to their ports only those reach user space that a list may mean.
//
// The kernel runs the filter of a socket before it puts a message into its queue (netlink_unicast in
// net/netlink/af_netlink.c), still in the sender's context; for whoever sends the message, one that is dropped was delivered.
// Nothing of it is in the firewall, and it ends with the socket.
//
// What it drops, [set.Set.Find] would not find in any question of the packet: plain packets only, see question.go. All else
// is undecided, and goes to user space, which decides exactly.
package nfilter

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"structs"
	"unsafe"

	"github.com/FastFilter/xorfilter"
	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"culprit/lists/set"
)

// ruleKey is the size of a rule's name as a key, in bytes, filled up with zeros.
const ruleKey = 56

// maxRules bounds the rules of a filter.
const maxRules = 4096

// Fingerprints are kept in blocks, as the elements of an array take eight bytes at least.
const (
	blockBits  = 10
	blockWords = 1 << blockBits // of four bytes
)

// A Filter is the program for some rules, and what it knows of their lists. It never changes, but for what it counts.
type Filter struct {
	rules        *ebpf.Map // by name
	elsewhere    *ebpf.Map // the same for [Filter.Function], by index
	fingerprints *ebpf.Map // of all lists, one after the other
	scratch      *ebpf.Map
	scratches    *ebpf.Map // one of each processor, for [Filter.Function]
	decided      *ebpf.Map // nil: it is somebody else's
	program      *ebpf.Program
	names        []string
	listed       kinds
	excepted     kinds
}

// Counts say what became of packets.
type Counts struct {
	Passed    uint64 // a name may be listed: one in billions is not
	Dropped   uint64 // no name is
	Undecided uint64 // user space has to look: also if an exception may mean the name
}

// Plus adds counts.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Passed + o.Passed, c.Dropped + o.Dropped, c.Undecided + o.Undecided}
}

// A rule is what the program knows of one: the value of the map.
type rule struct {
	_                structs.HostLayout
	seed             uint64
	listed, excepted table
	counts           Counts
}

// bytes are the rule's own, as the map has them.
func (r *rule) bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)) }

// A table is a binary fuse filter.
type table struct {
	_                                  structs.HostLayout
	seed                               uint64
	segmentLength, mask, segmentsCount uint32 // the last one is SegmentCountLength
	base                               uint32 // where its fingerprints begin
}

// Load loads a filter for rules, by their names. Packets of other rules pass untouched.
//
// decided is an array of one number of 8 bytes, or nil if nobody wants to know. The program writes the address of each message
// (sk_buff) to it that passes because its name is listed and not excepted, and 0 for other packets. Whoever sees a message come into
// the socket's queue can so tell whether this one was decided.
func Load(rules map[string]*set.Set, decided *ebpf.Map) (*Filter, error) {
	return load(rules, decided, kinds{whole: true}, kinds{})
}

// load loads a filter that looks up these kinds of entries and exceptions at least.
func load(rules map[string]*set.Set, decided *ebpf.Map, listed, excepted kinds) (f *Filter, err error) {
	f = &Filter{listed: listed, excepted: excepted}
	defer func() {
		if err != nil {
			f.Close()
			f, err = nil, fmt.Errorf("filter packets by lists: %w", err)
		}
	}()
	if decided == nil {
		f.decided, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_decided", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
		if err != nil {
			return f, err
		}
		decided = f.decided
	}
	if err = f.fill(rules); err != nil {
		return f, err
	}
	f.scratch, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_scratch", Type: ebpf.Array, KeySize: 4, ValueSize: scratchSize, MaxEntries: 1})
	if err != nil {
		return f, err
	}
	f.scratches, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_scratch", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: scratchSize, MaxEntries: 1})
	if err != nil {
		return f, err
	}
	f.program, err = ebpf.NewProgram(f.spec(decided))
	return f, err
}

// fill makes the maps of the rules.
func (f *Filter) fill(rules map[string]*set.Set) (err error) {
	if len(rules) > maxRules {
		return fmt.Errorf("%d rules: there can be %d", len(rules), maxRules)
	}
	f.rules, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "culprit_lists", Type: ebpf.Hash, KeySize: ruleKey, ValueSize: uint32(unsafe.Sizeof(rule{})), MaxEntries: uint32(max(1, len(rules))),
	})
	if err != nil {
		return err
	}
	f.elsewhere, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "culprit_lists", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(rule{})), MaxEntries: uint32(max(1, len(rules))),
	})
	if err != nil {
		return err
	}
	var words int64
	for _, s := range rules {
		words += int64(len(s.Filter().Fingerprints) + len(s.Exceptions().Fingerprints))
	}
	blocks := words>>blockBits + 1
	if blocks >= 1<<(32-blockBits) {
		return errors.New("too many names")
	}
	f.fingerprints, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "culprit_names", Type: ebpf.Array, KeySize: 4, ValueSize: 4 * blockWords, MaxEntries: uint32(blocks),
	})
	if err != nil {
		return err
	}
	w := writer{to: f.fingerprints}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if err := f.add(name, rules[name], &w); err != nil {
			return err
		}
	}
	err = w.flush()
	runtime.KeepAlive(rules) // the fingerprints are mapped as long as their set is there
	return err
}

// add adds a rule.
func (f *Filter) add(name string, s *set.Set, w *writer) error {
	listed, excepted := s.Filter(), s.Exceptions()
	if len(name) >= ruleKey {
		return fmt.Errorf("the name of rule %s is too long", name)
	}
	if !listed.Empty() && !excepted.Empty() && listed.Seed != excepted.Seed {
		return errors.New("names and exceptions are not hashed alike")
	}
	f.listed.add(listed)
	f.excepted.add(excepted)
	r := rule{seed: listed.Seed}
	var err error
	if r.listed, err = w.table(listed); err != nil {
		return err
	}
	if r.excepted, err = w.table(excepted); err != nil {
		return err
	}
	var key [ruleKey]byte
	copy(key[:], name)
	if err := f.elsewhere.Put(uint32(len(f.names)), r.bytes()); err != nil {
		return err
	}
	f.names = append(f.names, name)
	return f.rules.Put(key, r.bytes())
}

// Program is for [Attach], and for tests.
func (f *Filter) Program() *ebpf.Program { return f.program }

// Attach gives a socket a program, in place of the one that it has (SO_ATTACH_BPF, man 7 socket). No message passes unseen by
// both.
func Attach(fd int, p *ebpf.Program) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD()); err != nil {
		return fmt.Errorf("attach the filter to the NFLOG socket: %w: is net.core.optmem_max below 20480?", err)
	}
	return nil
}

// Counts returns what became of the packets of each rule.
func (f *Filter) Counts() map[string]Counts {
	all := map[string]Counts{}
	for i, name := range f.names {
		var key [ruleKey]byte
		copy(key[:], name)
		var r, elsewhere rule
		if f.rules.Lookup(key, r.bytes()) == nil && f.elsewhere.Lookup(uint32(i), elsewhere.bytes()) == nil {
			all[name] = r.counts.Plus(elsewhere.counts)
		}
	}
	return all
}

// Close gives back what the filter has. A socket that has its program keeps that.
func (f *Filter) Close() {
	for _, m := range []*ebpf.Map{f.rules, f.elsewhere, f.fingerprints, f.scratch, f.scratches, f.decided} {
		if m != nil {
			m.Close()
		}
	}
	if f.program != nil {
		f.program.Close()
	}
}

// Probe says why the kernel does not take a filter, or nil. It tries the largest, on a socket of its own, and another one in its
// place.
func Probe() error {
	all := kinds{true, true, true}
	f, err := load(nil, nil, all, all)
	if err != nil {
		return err
	}
	defer f.Close()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer unix.Close(fd)
	if err := Attach(fd, f.program); err != nil {
		return err
	}
	return Attach(fd, f.program)
}

// A writer fills the map of the fingerprints, block by block.
type writer struct {
	to    *ebpf.Map
	block [blockWords]uint32
	n     uint32 // fingerprints so far
}

// table adds a filter.
func (w *writer) table(from *set.Filter) (t table, err error) {
	var fuse xorfilter.BinaryFuse[uint32] = from.BinaryFuse
	t = table{seed: fuse.Seed, segmentLength: fuse.SegmentLength, mask: fuse.SegmentLengthMask, segmentsCount: fuse.SegmentCountLength, base: w.n}
	for rest := fuse.Fingerprints; len(rest) > 0; {
		n := copy(w.block[w.n%blockWords:], rest)
		rest = rest[n:]
		w.n += uint32(n)
		if w.n%blockWords == 0 {
			if err := w.put(w.n>>blockBits - 1); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// flush writes the last block.
func (w *writer) flush() error { return w.put(w.n >> blockBits) }

func (w *writer) put(block uint32) error {
	return w.to.Put(block, unsafe.Slice((*byte)(unsafe.Pointer(&w.block)), unsafe.Sizeof(w.block)))
}
