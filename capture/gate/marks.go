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
		for _, mt := range parseMounts(text) {
			if done[mt.device] || !mt.startable() {
				continue
			}
			if why := mt.unmarkable(); why != "" {
				trouble = append(trouble, fmt.Sprintf("%s (%s): %s", mt.point, mt.kind, why))
				continue
			}
			err := unix.FanotifyMark(m.fanotify, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, root+mt.point)
			switch {
			case err == nil:
				done[mt.device] = true
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
				// Unmounted, or the process has gone.
			default:
				trouble = append(trouble, fmt.Sprintf("%s (%s): %v", mt.point, mt.kind, err))
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

// A mount is a line of mountinfo.
type mount struct {
	device  string // major:minor
	point   string
	options string
	kind    string // of file system
}

// startable reports whether programs can be started from the mount at all.
func (m mount) startable() bool {
	if slices.Contains(strings.Split(m.options, ","), "noexec") {
		return false
	}
	switch m.kind {
	case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore", "bpf",
		"configfs", "binfmt_misc", "nsfs", "selinuxfs", "efivarfs", "rpc_pipefs", "fusectl", "autofs", "hugetlbfs":
		return false
	}
	return true
}

// unmarkable says why a file system is not marked, or "". Looking a path up on a server that
// has gone would hang us for ever, and every execve with us.
func (m mount) unmarkable() string {
	kind, _, _ := strings.Cut(m.kind, ".")
	switch kind {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "glusterfs", "lustre", "fuse", "fuseblk":
		return "a server could hang us: its programs are found by the proc connector only"
	}
	return ""
}

// parseMounts reads mountinfo (man 5 proc): id, parent, major:minor, root, mount
// point, options, any number of fields, "-", type, source, super options.
func parseMounts(text []byte) []mount {
	var ms []mount
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 1 {
			continue
		}
		ms = append(ms, mount{device: f[2], point: unescape(f[4]), options: f[5], kind: g[0]})
	}
	return ms
}

// unescape undoes mountinfo's \040 for blanks and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
