package sensor

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// maps are what programs, daemon and keeper share.
type maps struct {
	sends *ebpf.Map // ring of records about packets, for the trigger
	lost  *ebpf.Map // how many had no room in it

	// What may be stopped.
	lease  *ebpf.Map // until when, in nanoseconds of CLOCK_MONOTONIC
	calls  *ebpf.Map // by system calls with these numbers
	ours   *ebpf.Map // not these PIDs
	spared *ebpf.Map // not these UIDs
	lately *ebpf.Map // by PID: those that were stopped last
	rules  *ebpf.Map // in the way "nflog": by packets of these rules

	decided *ebpf.Map // the message that the filter of lists decided last

	// Which programs are held, and what is said of them.
	users  *ebpf.Map // those of these UIDs
	left   *ebpf.Map // by PID: not those that the daemon has just refused, nor their children
	starts *ebpf.Map // ring of those that are held
	unheld *ebpf.Map // how many were not, as too many were stopped

	stopped *ebpf.Map // by PID and why, see keyOf: those that are stopped
	stops   *ebpf.Map // ring of the same, for their keeper
}

// Sizes. A burst of packets waits in sends until the trigger has caught up.
const (
	sendsSize  = 4 << 20 // bytes
	stopsSize  = 64 << 10
	latelySize = 16384 // processes
	maxUsers   = 4096
	maxRules   = 4096
)

func newMaps(atOnce int) (*maps, error) {
	m := new(maps)
	if err := m.make(atOnce); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *maps) make(atOnce int) (err error) {
	for _, s := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&m.sends, ebpf.MapSpec{Name: "culprit_sends", Type: ebpf.RingBuf, MaxEntries: sendsSize}},
		{&m.lost, ebpf.MapSpec{Name: "culprit_lost", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
		{&m.lease, ebpf.MapSpec{Name: "culprit_lease", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
		{&m.calls, ebpf.MapSpec{Name: "culprit_calls", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 64}},
		{&m.ours, ebpf.MapSpec{Name: "culprit_ours", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 64}},
		{&m.spared, ebpf.MapSpec{Name: "culprit_spared", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: maxUsers}},
		{&m.lately, ebpf.MapSpec{Name: "culprit_lately", Type: ebpf.LRUHash, KeySize: 4, ValueSize: stopSize, MaxEntries: latelySize}},
		{&m.rules, ebpf.MapSpec{Name: "culprit_rules", Type: ebpf.Hash, KeySize: ruleKey, ValueSize: 4, MaxEntries: maxRules}},
		{&m.decided, ebpf.MapSpec{Name: "culprit_decided", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
		{&m.users, ebpf.MapSpec{Name: "culprit_users", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: maxUsers}},
		{&m.left, ebpf.MapSpec{Name: "culprit_left", Type: ebpf.LRUHash, KeySize: 4, ValueSize: stopSize, MaxEntries: latelySize}},
		{&m.starts, ebpf.MapSpec{Name: "culprit_starts", Type: ebpf.RingBuf, MaxEntries: stopsSize}},
		{&m.unheld, ebpf.MapSpec{Name: "culprit_unheld", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
		{&m.stopped, ebpf.MapSpec{Name: "culprit_stopped", Type: ebpf.Hash, KeySize: 4, ValueSize: stopSize, MaxEntries: uint32(max(1, atOnce))}},
		{&m.stops, ebpf.MapSpec{Name: "culprit_stops", Type: ebpf.RingBuf, MaxEntries: stopsSize}},
	} {
		if *s.to, err = ebpf.NewMap(&s.spec); err != nil {
			return fmt.Errorf("make the map %s: %w", s.spec.Name, err)
		}
	}
	for n := range sendingCalls() {
		if err := m.calls.Put(n, uint32(1)); err != nil {
			return fmt.Errorf("fill the map culprit_calls: %w", err)
		}
	}
	return nil
}

func (m *maps) close() {
	for _, one := range []*ebpf.Map{m.sends, m.lost, m.lease, m.calls, m.ours, m.spared, m.lately, m.rules, m.decided, m.users, m.left, m.starts, m.unheld, m.stopped, m.stops} {
		if one != nil {
			one.Close()
		}
	}
}
