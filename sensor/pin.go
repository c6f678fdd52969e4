package sensor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// BPFFS is where the BPF file system usually is. UnitFS is where our systemd unit mounts another
// one, as it lets nobody write to the first.
const (
	BPFFS  = "/sys/fs/bpf"
	UnitFS = "/run/culprit/bpf"
)

const (
	ownDirs = "/run/culprit/bpf-%d" // by PID
	pinMode = 0o600
)

// pin is where iptables finds a program.
type pin struct {
	file    string
	mounted string // the file system that we mounted for it; "" if there was one
}

// newPin finds or mounts a file system for a pin of ours, whose name begins so.
func newPin(prefix string) (*pin, error) {
	file := prefix + strconv.Itoa(os.Getpid())
	for _, dir := range []string{BPFFS, UnitFS} {
		if OnBPF(dir) && unix.Access(dir, unix.W_OK) == nil {
			return &pin{file: filepath.Join(dir, file)}, nil
		}
	}
	// Not at its usual place: somebody else may mount one there, and mean to.
	dir := fmt.Sprintf(ownDirs, os.Getpid())
	p := &pin{file: filepath.Join(dir, file), mounted: dir}
	if OnBPF(dir) {
		return p, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a place for its pin: %w", err)
	}
	if err := unix.Mount("culprit", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return nil, errors.Join(fmt.Errorf("mount a BPF file system at %s: %w", dir, err), os.Remove(dir))
	}
	return p, nil
}

// rulePin is how the name of a rule's program begins, for an instance.
func rulePin(name string) string { return "culprit-" + name + "-" }

// OnBPF reports whether a directory is on a BPF file system.
func OnBPF(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// RemovePins removes the pins that a daemon of the same name left behind when it was killed together
// with its thawer. The rules that name them must be gone.
func RemovePins(name string) error {
	var errs []error
	for _, dir := range []string{BPFFS, UnitFS} {
		for _, file := range leftBy(filepath.Join(dir, rulePin(name))) {
			errs = append(errs, (&pin{file: file}).remove())
		}
	}
	for _, dir := range leftBy(strings.TrimSuffix(ownDirs, "%d")) {
		errs = append(errs, (&pin{file: filepath.Join(dir, "none"), mounted: dir}).remove())
	}
	return errors.Join(errs...)
}

// leftBy returns the files whose names are the prefix and the PID of a process that is gone.
func leftBy(prefix string) (files []string) {
	all, _ := filepath.Glob(prefix + "*") // names of chains have no pattern in them
	for _, file := range all {
		pid, err := strconv.Atoi(strings.TrimPrefix(file, prefix))
		if err != nil { // of a longer name
			continue
		}
		info, err := os.Lstat(file)
		if err != nil {
			continue
		}
		// Another process may have the PID by now.
		if st, err := proc.Default.Stat(pid); err != nil || proc.StartTime(st.Start).After(info.ModTime()) {
			files = append(files, file)
		}
	}
	return files
}

func (p *pin) path() string { return p.file }

// set makes the pin that of a program.
func (p *pin) set(prog *ebpf.Program) error {
	_ = os.Remove(p.file) // of a culprit that was killed and had our PID
	if err := prog.Pin(p.file); err != nil {
		return fmt.Errorf("pin the program: %w", err)
	}
	return os.Chmod(p.file, pinMode)
}

// remove removes the pin, and the file system if we mounted it. The daemon and its thawer
// both do that: whoever comes second finds nothing.
func (p *pin) remove() error {
	var err error
	if _, missing := os.Lstat(p.file); missing == nil { // also on a file system that is read-only
		if err = os.Remove(p.file); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if p.mounted == "" {
		return err
	}
	if OnBPF(p.mounted) {
		err = errors.Join(err, unix.Unmount(p.mounted, unix.MNT_DETACH))
	}
	if gone := os.Remove(p.mounted); !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}
