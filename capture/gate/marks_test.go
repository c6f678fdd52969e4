package gate

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334460k,nr_inodes=3083615,mode=755
26 24 0:24 / /dev/pts rw,relatime - devpts devpts rw,mode=600,ptmxmode=000
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 27 0:32 / /srv/a\040b\011c\134d rw,nosuid,nodev,noatime shared:7 master:1 propagate_from:2 unbindable - tmpfs with\040blank rw
41 27 0:41 /sub /var/lib/docker/overlay2/abc/merged rw,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w
42 27 0:42 / /home rw,relatime - nfs4 server:/export - x rw,vers=4.2
43 27 0:43 / /mnt/ssh rw,nosuid - fuse.sshfs me@there:/ rw,user_id=0
44 27 0:44 / /var/tmp rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw
`

func TestParseMounts(t *testing.T) {
	t.Parallel()
	want := []mount{
		{"0:21", "/proc", "rw,relatime", "proc"},
		{"0:6", "/dev", "rw,relatime", "devtmpfs"},
		{"0:24", "/dev/pts", "rw,relatime", "devpts"},
		{"254:0", "/", "rw,relatime", "ext4"},
		{"0:32", "/srv/a b\tc\\d", "rw,nosuid,nodev,noatime", "tmpfs"},
		{"0:41", "/var/lib/docker/overlay2/abc/merged", "rw,relatime", "overlay"},
		{"0:42", "/home", "rw,relatime", "nfs4"},
		{"0:43", "/mnt/ssh", "rw,nosuid", "fuse.sshfs"},
		{"0:44", "/var/tmp", "rw,nosuid,nodev,noexec,relatime", "tmpfs"},
	}
	if got := parseMounts([]byte(mountinfo)); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"", "\n", "x", " - ", "1 2 3:4 / /x - tmpfs tmpfs rw", "1 2 3:4 / /x rw", "1 2 3:4 / /x rw -", "1 2 3:4 / /x rw - "} {
		if got := parseMounts([]byte(bad)); len(got) != 0 {
			t.Errorf("%q became %+v", bad, got)
		}
	}
}

// An overlay of hundreds of layers has a line that long. The mounts after it count as well.
func TestParseLongMount(t *testing.T) {
	t.Parallel()
	long := "41 27 0:41 / /merged rw - overlay overlay rw,lowerdir+=" + strings.Repeat("/a/very/long/layer:", 10_000) + "\n"
	ms := parseMounts([]byte(long + mountinfo))
	if want := 1 + strings.Count(mountinfo, "\n"); len(ms) != want {
		t.Errorf("%d mounts, want %d", len(ms), want)
	}
}

func TestParseOwnMounts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	ms := parseMounts(text)
	if len(ms) != bytes.Count(text, []byte("\n")) {
		t.Errorf("%d mounts of\n%s", len(ms), text)
	}
	if !slices.ContainsFunc(ms, func(m mount) bool { return m.point == "/" && m.startable() }) {
		t.Errorf("no program could be started from /: %+v", ms)
	}
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":               "",
		"/plain":         "/plain",
		`/a\040b`:        "/a b",
		`\040\011\012`:   " \t\n",
		`/back\134slash`: `/back\slash`,
		`\134040`:        `\040`, // unescaped only once
		`/x\043y`:        "/x#y",
		`\377`:           "\xff",
		`\400`:           `\400`, // not a byte
		`\08`:            `\08`,
		`/end\`:          `/end\`,
		`/end\04`:        `/end\04`,
		`\\040`:          `\ `,
		`/ü\040ü`:        "/ü ü",
	} {
		if got := unescape(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
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
		m := mount{device: "0:1", point: "/x", options: c.options, kind: c.kind}
		if got := m.startable(); got != c.startable {
			t.Errorf("%s with %s: programs can be started: %v, want %v", c.kind, c.options, got, c.startable)
		}
		if got := m.unmarkable(); (got != "") != c.unmarkable {
			t.Errorf("%s with %s: it cannot be marked because %q", c.kind, c.options, got)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	for line := range strings.Lines(mountinfo) {
		f.Add([]byte(line))
	}
	f.Add([]byte("36 - ext4"))                                    // too few fields before the dash
	f.Add([]byte("26 24 0:24 / /dev/pts rw - devpts\n\n\n - \n")) // and after it, and lines of nothing
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, m := range parseMounts(text) {
			if m.device == "" || m.kind == "" || m.options == "" || len(m.point) > len(text) {
				t.Errorf("%q became %+v", text, m)
			}
			m.startable()
			m.unmarkable()
		}
	})
}

// Every name survives the kernel's escaping (fs/proc_namespace.c, seq_path).
func FuzzUnescape(f *testing.F) {
	f.Add("/a b")
	f.Add(`\040`)
	f.Add(`\008\700\04`) // not an octal digit, more than a byte, cut short
	f.Fuzz(func(t *testing.T, name string) {
		unescape(name) // any text may come
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`).Replace(name)
		if got := unescape(escaped); got != name {
			t.Errorf("%q, escaped as %q, came back as %q", name, escaped, got)
		}
	})
}
