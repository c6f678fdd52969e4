package gate

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"culprit/internal/proc"
)

func TestParseOwnMounts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	ms := proc.ParseMounts(text)
	if len(ms) != bytes.Count(text, []byte("\n")) {
		t.Errorf("%d mounts of\n%s", len(ms), text)
	}
	if !slices.ContainsFunc(ms, func(m proc.Mount) bool { return m.Point == "/" && startable(m) }) {
		t.Errorf("no program could be started from /: %+v", ms)
	}
}

func TestWhatIsMarked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, options         string
		startable, unmarkable bool
	}{
		{"ext4", "rw", true, false},
		{"overlay", "ro,relatime", true, false},
		{"tmpfs", "rw,nosuid,nodev", true, false},
		{"tmpfs", "rw,nosuid,noexec,nodev", false, false},
		{"tmpfs", "noexec", false, false},
		{"tmpfs", "rw,x-noexec", true, false},
		{"devtmpfs", "rw", true, false},
		{"squashfs", "ro", true, false},
		{"ramfs", "rw", true, false},
		{"proc", "rw", false, false},
		{"sysfs", "rw", false, false},
		{"cgroup2", "rw", false, false},
		{"devpts", "rw", false, false},
		{"autofs", "rw", false, false},
		{"nfs", "rw", true, true},
		{"nfs4", "ro", true, true},
		{"nfs4", "ro,noexec", false, true},
		{"cifs", "rw", true, true},
		{"fuse", "rw", true, true},
		{"fuseblk", "rw", true, true},
		{"fuse.sshfs", "rw", true, true},
		{"fuse.a.b", "rw", true, true},
		{"ceph", "rw", true, true},
		{"nfsd", "rw", true, false},
	} {
		m := proc.Mount{Device: "0:1", Point: "/x", Options: c.options, Kind: c.kind}
		if got := startable(m); got != c.startable {
			t.Errorf("%s with %s: programs can be started: %v, want %v", c.kind, c.options, got, c.startable)
		}
		if got := unmarkable(m); (got != "") != c.unmarkable {
			t.Errorf("%s with %s: it cannot be marked because %q", c.kind, c.options, got)
		}
	}
}
