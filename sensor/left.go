package sensor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"culprit/internal/proc"
)

// If daemon and thawer are killed at the same time, nobody is there to let go who stands still,
// and the program may stop more until it is gone or the lease is over. So the map of those who
// are stopped is pinned as long as processes may be stopped: the kernel itself keeps the record,
// at each instant. The next culprit, or `culprit rules remove`, goes by it.

// records are the names of the pinned maps, before the PID of the daemon.
var records = [...]string{"culprit_lease-", "culprit_stopped-"}

// record pins the maps of the record.
func (s *Sensor) record() (pins []*pin, err error) {
	for i, m := range []*ebpf.Map{s.maps.lease, s.maps.stopped} {
		p, err := newPin(records[i])
		if err != nil {
			return pins, fmt.Errorf("keep a record of stopped processes: %w", err)
		}
		if s.pin != nil && s.pin.mounted == p.mounted {
			p.mounted = "" // it goes with the rule's pin
		}
		_ = os.Remove(p.file) // of a culprit that was killed and had our PID
		if err := m.Pin(p.file); err != nil {
			return pins, fmt.Errorf("keep a record of stopped processes: %w", err)
		}
		pins = append(pins, p)
	}
	return pins, nil
}

// removeAll removes pins.
func removeAll(pins []*pin) error {
	var errs []error
	for _, p := range pins {
		errs = append(errs, p.remove())
	}
	return errors.Join(errs...)
}

// LetGoLeft lets all go on whom a daemon left stopped that was killed together with its thawer.
func LetGoLeft() error {
	var errs []error
	dirs := append(leftBy(strings.TrimSuffix(ownDirs, "%d")), BPFFS, UnitFS)
	for _, dir := range dirs {
		for _, file := range leftBy(filepath.Join(dir, records[1])) {
			pid := strings.TrimPrefix(filepath.Base(file), records[1])
			errs = append(errs, letGoLeft(filepath.Join(dir, records[0]+pid), file))
		}
	}
	return errors.Join(errs...)
}

// letGoLeft goes by one record. Another culprit may be doing that, too, and remove it.
func letGoLeft(leaseFile, stoppedFile string) (err error) {
	defer os.Remove(leaseFile)
	defer func() {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}()
	lease, err := ebpf.LoadPinnedMap(leaseFile, nil)
	if err != nil {
		return fmt.Errorf("let go whom a killed culprit left stopped: %w", err)
	}
	defer lease.Close()
	stopped, err := ebpf.LoadPinnedMap(stoppedFile, nil)
	if err != nil {
		return fmt.Errorf("let go whom a killed culprit left stopped: %w", err)
	}
	defer stopped.Close()
	if err := endLease(proc.Default, lease, stopped); err != nil {
		return err
	}
	return os.Remove(stoppedFile)
}
