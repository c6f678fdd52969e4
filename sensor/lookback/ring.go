package lookback

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring is the memory that the programs write to, and that we read without stopping them. Each
// processor has a number of segments, which it fills one after the other, the oldest last. Records
// are as long as they need, so a segment may end with some bytes unused.
//
// A reader copies what it wants out of a segment and then looks whether the segment is still the
// same. So nobody waits for anybody, and no event wakes us.
type ring struct {
	config   Config
	segment  int // bytes of one
	margin   int // bytes that have to be free for another record
	segments int // of each processor
	cpuCount int

	data *ebpf.Map // the segments: those of the first processor, of the second, …
	cpus *ebpf.Map // the state of each processor

	mapped, states []byte
}

// A segment begins with these; both are 0 before it is used.
const (
	segmentOrdinal = 0 // u64: which one of this processor it is, from 1
	segmentUsed    = 8 // u64: bytes, with these
	segmentHeader  = 16
)

// The state of a processor.
const (
	stateStarted = 0  // u64: segments
	stateAt      = 8  // u64: where in the last segment the next record begins
	stateIndex   = 16 // u64: which segment of the map that is
	stateRecords = 24 // u64
	stateSize    = 64 // a cache line
)

const (
	leastSegment  = 64 << 10
	leastSegments = 4
)

func newRing(c Config) (r *ring, err error) {
	r = &ring{config: c, segment: leastSegment}
	if r.cpuCount, err = processors(); err != nil {
		return nil, err
	}
	r.margin = largest(c.Strings) + int(roundUp(int32(max(argsSize(c.Strings), addressSize)))) + partBytes
	for r.segment < leastSegments*r.margin {
		r.segment *= 2
	}
	rest := r.cpuCount * stateSize
	if r.segments = (c.Memory - rest) / r.segment / r.cpuCount; r.segments < leastSegments {
		return nil, fmt.Errorf("%d bytes of memory are too little for %d processors and strings of %d bytes: take %d",
			c.Memory, r.cpuCount, c.Strings, rest+leastSegments*r.segment*r.cpuCount)
	}
	for _, m := range []struct {
		to         **ebpf.Map
		name       string
		size, most int
	}{
		{&r.data, "culprit_back", r.segment, r.segments * r.cpuCount},
		{&r.cpus, "culprit_cpus", stateSize, r.cpuCount},
	} {
		*m.to, err = ebpf.NewMap(&ebpf.MapSpec{
			Name: m.name, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(m.size), MaxEntries: uint32(m.most), Flags: unix.BPF_F_MMAPABLE,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make the map %s: %w", m.name, err), r.close())
		}
	}
	if r.mapped, err = unix.Mmap(r.data.FD(), 0, r.segment*r.segments*r.cpuCount, unix.PROT_READ, unix.MAP_SHARED); err == nil {
		r.states, err = unix.Mmap(r.cpus.FD(), 0, r.cpuCount*stateSize, unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the memory of the look-back: %w", err), r.close())
	}
	return r, nil
}

func (r *ring) close() error {
	var errs []error
	for _, m := range [][]byte{r.mapped, r.states} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	r.mapped, r.states = nil, nil
	for _, m := range []*ebpf.Map{r.data, r.cpus} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// processors returns how many processors there are, from 0 to the last that is on.
func processors() (int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online") // "0-3", "0,2-3"
	if err != nil {
		return 0, fmt.Errorf("count the processors: %w", err)
	}
	s := strings.TrimSpace(string(b))
	last, err := strconv.Atoi(s[strings.LastIndexAny(s, ",-")+1:])
	if err != nil {
		return 0, fmt.Errorf("count the processors: %w", err)
	}
	return last + 1, nil
}

// state returns a number of a processor's state.
func (r *ring) state(cpu int, field uintptr) uint64 {
	return load(r.states, cpu*stateSize+int(field))
}

// load reads a number that a program may be changing.
func load(b []byte, at int) uint64 {
	_ = b[at+7]
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&b[at])))
}

// at returns the memory of the segment with that ordinal.
func (r *ring) at(cpu int, ordinal uint64) []byte {
	i := (cpu*r.segments + int((ordinal-1)%uint64(r.segments))) * r.segment
	return r.mapped[i : i+r.segment : i+r.segment]
}

// beginsBefore reports whether the first record of a segment is of that time or before.
func (r *ring) beginsBefore(cpu int, ordinal, at uint64) bool {
	b := r.at(cpu, ordinal)
	return load(b, segmentUsed) > segmentHeader && load(b, segmentHeader+recTime) <= at
}

// copy returns copies of the records of a segment that are wanted. !ok: it was overwritten meanwhile.
func (r *ring) copy(cpu int, ordinal uint64, wants func([]byte) bool) (records [][]byte, ok bool) {
	b := r.at(cpu, ordinal)
	if load(b, segmentOrdinal) != ordinal {
		return nil, false
	}
	used := int(min(load(b, segmentUsed), uint64(r.segment)))
	for at := segmentHeader; at+recParts <= used; {
		size := int(u32(b, at+recSize))
		if size < recParts || size > used-at {
			return nil, false
		}
		if one := b[at : at+size]; wants(one) {
			records = append(records, append([]byte(nil), one...))
		}
		at += size
	}
	return records, load(b, segmentOrdinal) == ordinal
}
