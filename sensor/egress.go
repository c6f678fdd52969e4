package sensor

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"culprit/internal/kernel"
)

// Packets of other network namespaces: a program on the egress hook of the root of cgroup v2 sees what
// each local socket sends, in whatever namespace, in the sender's context (ip_finish_output in
// net/ipv4/ip_output.c). So no namespace is entered and no firewall but ours is touched, a namespace is
// covered from its first packet on, and an idle one costs nothing. Our own namespace is left to NFLOG.
//
// The program is made for the wants that it looks for. Others replace it at once, and no packet is missed.

// Others says what to look for in other network namespaces.
type Others struct {
	Wants   []Want
	Snaplen int // how much of a packet is reported, in bytes
	// Chosen: not in each namespace senders are stopped, see [OtherPackets.Choose].
	Chosen bool
}

// egress sees the packets of other network namespaces.
type egress struct {
	config  Others
	sensor  *Sensor
	netns   uint32 // ours
	freezes bool
	root    int // directory of the root cgroup
	packets *ebpf.Map
	lost    *ebpf.Map
	buckets *ebpf.Map // of senders, see share
	ones    *ebpf.Map // cgroups that count as one with all that are in them
	chosen  *ebpf.Map // inodes of namespaces that culprit knows: whether senders are stopped there
	wants   *wants
	tap     *link.RawLink
	reader  *ringbuf.Reader
	unread  atomic.Uint64
}

func newEgress(s *Sensor, o Others) (e *egress, err error) {
	e = &egress{config: o, sensor: s, root: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
			e = nil
		}
	}()
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return e, fmt.Errorf("find our network namespace: %w", err)
	}
	e.netns = uint32(ns.Ino)
	if e.root, err = rootCgroup(); err != nil {
		return e, err
	}
	if e.packets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_packets", Type: ebpf.RingBuf, MaxEntries: packetsSize}); err != nil {
		return e, fmt.Errorf("make the map culprit_packets: %w", err)
	}
	if e.lost, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_lost", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		return e, fmt.Errorf("make the map culprit_lost: %w", err)
	}
	if e.buckets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_buckets", Type: ebpf.LRUHash, KeySize: fromSize, ValueSize: bucketSize, MaxEntries: maxBuckets}); err != nil {
		return e, fmt.Errorf("make the map culprit_buckets: %w", err)
	}
	if e.ones, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_ones", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 4, MaxEntries: maxOnes}); err != nil {
		return e, fmt.Errorf("make the map culprit_ones: %w", err)
	}
	if e.chosen, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_chosen", Type: ebpf.LRUHash, KeySize: 4, ValueSize: 4, MaxEntries: chosenSize}); err != nil {
		return e, fmt.Errorf("make the map culprit_chosen: %w", err)
	}
	if e.reader, err = ringbuf.NewReader(e.packets); err != nil {
		return e, err
	}
	// Programs on this hook can stop a process since Linux 6.16. Before, they still tell who sends.
	if e.freezes = s.config.Freeze; e.freezes {
		e.wants, err = e.load(o.Wants, nil)
		e.freezes = err == nil
	}
	if e.wants == nil {
		if e.wants, err = e.load(o.Wants, nil); err != nil {
			return e, err
		}
	}
	// Attached to nothing that it would see.
	if err = e.attach(); err != nil {
		return e, err
	}
	err = errors.Join(e.tap.Close(), kernel.InitialPIDs())
	e.tap = nil
	return e, err
}

const (
	packetsSize = 8 << 20 // of the ring, in bytes
	chosenSize  = 16384   // namespaces
)

// rootCgroup opens the root of cgroup v2, wherever it is mounted, or if it is not.
func rootCgroup() (dir int, err error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err == nil {
		defer unix.Close(fs)
		err = unix.FsconfigCreate(fs)
	}
	if err == nil {
		dir, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	}
	if err != nil {
		return -1, fmt.Errorf("open the root of cgroup v2: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil || st.Ino != rootCgroupID {
		return -1, errors.Join(errors.New("open the root of cgroup v2: culprit runs in a cgroup namespace, and sees only a part"), err, unix.Close(dir))
	}
	return dir, nil
}

func (e *egress) attach() (err error) {
	e.tap, err = link.AttachRawLink(link.RawLinkOptions{Target: e.root, Program: e.wants.prog, Attach: ebpf.AttachCGroupInetEgress})
	if err != nil {
		e.tap = nil
		return fmt.Errorf("attach to what is sent: %w", err)
	}
	return nil
}

// replace makes the program look for other things.
func (e *egress) replace(all []Want, lists Lists) error {
	next, err := e.load(all, lists)
	if err != nil {
		return err
	}
	if e.tap != nil {
		if err := e.tap.Update(next.prog); err != nil {
			next.close()
			return fmt.Errorf("replace the program for other network namespaces: %w", err)
		}
	}
	e.wants.close()
	e.wants = next
	return nil
}

func (e *egress) close() error {
	var errs []error
	if e.tap != nil {
		errs = append(errs, e.tap.Close())
	}
	if e.wants != nil {
		e.wants.close()
	}
	if e.reader != nil {
		errs = append(errs, e.reader.Close())
	}
	for _, m := range []*ebpf.Map{e.packets, e.lost, e.buckets, e.ones, e.chosen} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if e.root >= 0 {
		errs = append(errs, unix.Close(e.root))
	}
	return errors.Join(errs...)
}

// SeesOthers reports whether packets of other network namespaces are seen; if not, [Sensor.NoOthers] says
// why.
func (s *Sensor) SeesOthers() bool { return s.egress != nil }

// FreezesOthers reports whether senders in other network namespaces are stopped.
func (s *Sensor) FreezesOthers() bool { return s.egress != nil && s.egress.freezes }

// NoOthers says why packets of other network namespaces are not seen, or is nil.
func (s *Sensor) NoOthers() error { return s.noOthers }

// SetWants replaces what is looked for in other network namespaces, at once. Without lists (nil) it is for user space to look whether a
// question is listed.
func (s *Sensor) SetWants(all []Want, lists Lists) error {
	if s.egress == nil {
		return nil
	}
	return s.egress.replace(all, lists)
}
