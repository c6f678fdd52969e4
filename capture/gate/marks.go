package gate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// marker keeps the fanotify marks, on a goroutine of its own, because the answering thread must
// not wait for the lookup of a path.
type marker struct {
	fanotify int
	daemon   int
	wanted   chan bool
}

func newMarker(fanotify, daemon int) *marker {
	m := &marker{fanotify: fanotify, daemon: daemon, wanted: make(chan bool, 1)}
	go m.run()
	return m
}

// set says whether marks are wanted. It never waits.
func (m *marker) set(wanted bool) {
	select {
	case <-m.wanted:
	default:
	}
	m.wanted <- wanted
}

// markEvery is how often everything is marked again while marks are wanted, because mounts in
// other namespaces appear without notice. lookEvery is how often the marker checks whether
// marks are still wanted, and whether something was mounted in its own namespace.
const (
	markEvery = time.Second
	lookEvery = 100 * time.Millisecond
)

// run sets and removes marks as long as the process lives.
func (m *marker) run() {
	for wanted := range m.wanted {
		if wanted {
			m.keep()
		}
		// FAN_MARK_FLUSH removes all marks on file systems.
		_ = unix.FanotifyMark(m.fanotify, unix.FAN_MARK_FLUSH|unix.FAN_MARK_FILESYSTEM, 0, unix.AT_FDCWD, "/")
	}
}

// keep marks everything, and again after each mount, until marks are not wanted any more.
func (m *marker) keep() {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		m.report([]string{err.Error()})
		return
	}
	defer mounts.Close()
	var marked time.Time
	var reported []string
	for first := true; ; first = false {
		if time.Since(marked) >= markEvery {
			trouble := m.mark()
			if marked = time.Now(); first || !slices.Equal(trouble, reported) {
				m.report(trouble)
				reported = trouble
			}
		}
		select {
		case wanted := <-m.wanted:
			if !wanted {
				return
			}
		default:
		}
		// A change of mounts raises POLLERR and POLLPRI (man 5 proc, mountinfo).
		fds := []unix.PollFd{{Fd: int32(mounts.Fd()), Events: unix.POLLPRI}}
		if n, _ := unix.Poll(fds, int(lookEvery.Milliseconds())); n > 0 {
			marked = time.Time{}
		}
	}
}

// mark marks the file systems of all mount namespaces and returns what it could not mark.
func (m *marker) mark() (trouble []string) {
	seen, done := map[string]bool{}, map[string]bool{} // namespaces, devices
	visit := func(pid, root string) {
		ns, err := os.Readlink("/proc/" + pid + "/ns/mnt")
		if err != nil || seen[ns] {
			return
		}
		seen[ns] = true
		text, err := os.ReadFile("/proc/" + pid + "/mountinfo")
		if err != nil {
			return
		}
		for _, mt := range proc.ParseMounts(text) {
			if done[mt.Device] || !startable(mt) {
				continue
			}
			if why := unmarkable(mt); why != "" {
				trouble = append(trouble, fmt.Sprintf("%s (%s): %s", mt.Point, mt.Kind, why))
				continue
			}
			err := unix.FanotifyMark(m.fanotify, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, root+mt.Point)
			switch {
			case err == nil:
				done[mt.Device] = true
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
				// Unmounted, or the process has gone.
			default:
				trouble = append(trouble, fmt.Sprintf("%s (%s): %v", mt.Point, mt.Kind, err))
			}
		}
	}
	visit("self", "")
	pids, _ := proc.Default.PIDs()
	for _, pid := range pids {
		p := strconv.Itoa(pid)
		visit(p, "/proc/"+p+"/root")
	}
	return trouble
}

func (m *marker) report(trouble []string) {
	b := append([]byte{kindMarks}, strings.Join(trouble, "\n")...)
	_ = unix.Send(m.daemon, b[:min(len(b), maxMessage)], unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

// startable reports whether programs can be started from a mount at all.
func startable(m proc.Mount) bool {
	if slices.Contains(strings.Split(m.Options, ","), "noexec") {
		return false
	}
	switch m.Kind {
	case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore", "bpf",
		"configfs", "binfmt_misc", "nsfs", "selinuxfs", "efivarfs", "rpc_pipefs", "fusectl", "autofs", "hugetlbfs":
		return false
	}
	return true
}

// unmarkable says why a file system is not marked, or "". Looking a path up on a server that
// has gone would hang us for ever, and every execve with us.
func unmarkable(m proc.Mount) string {
	if m.MayHang() {
		return "a server could hang us: its programs are found by the proc connector only"
	}
	return ""
}
