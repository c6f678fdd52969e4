package proc

import (
	"strconv"
	"strings"
)

// A Mount is a line of /proc/PID/mountinfo (man 5 proc).
type Mount struct {
	ID      int
	Device  string // major:minor
	Root    string // the directory of the file system that is mounted
	Point   string
	Options string
	Kind    string // of the file system
}

// MayHang reports whether looking something up in the file system may never end: a server that
// has gone, or one that a user runs, answers for it.
func (m Mount) MayHang() bool {
	kind, _, _ := strings.Cut(m.Kind, ".")
	switch kind {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "glusterfs", "lustre", "fuse", "fuseblk":
		return true
	}
	return false
}

// ParseMounts reads mountinfo: id, parent, major:minor, root, mount point, options, any number
// of fields, "-", type, source, super options.
func ParseMounts(text []byte) []Mount {
	var ms []Mount
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 1 {
			continue
		}
		id, err := strconv.Atoi(f[0])
		if err != nil {
			continue
		}
		ms = append(ms, Mount{ID: id, Device: f[2], Root: unescape(f[3]), Point: unescape(f[4]), Options: f[5], Kind: g[0]})
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
