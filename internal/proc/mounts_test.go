package proc

import (
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
	want := []Mount{
		{22, "0:21", "/", "/proc", "rw,relatime", "proc"},
		{24, "0:6", "/", "/dev", "rw,relatime", "devtmpfs"},
		{26, "0:24", "/", "/dev/pts", "rw,relatime", "devpts"},
		{27, "254:0", "/", "/", "rw,relatime", "ext4"},
		{36, "0:32", "/", "/srv/a b\tc\\d", "rw,nosuid,nodev,noatime", "tmpfs"},
		{41, "0:41", "/sub", "/var/lib/docker/overlay2/abc/merged", "rw,relatime", "overlay"},
		{42, "0:42", "/", "/home", "rw,relatime", "nfs4"},
		{43, "0:43", "/", "/mnt/ssh", "rw,nosuid", "fuse.sshfs"},
		{44, "0:44", "/", "/var/tmp", "rw,nosuid,nodev,noexec,relatime", "tmpfs"},
	}
	if got := ParseMounts([]byte(mountinfo)); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"", "\n", "x", " - ", "1 2 3:4 / /x - tmpfs tmpfs rw", "1 2 3:4 / /x rw", "1 2 3:4 / /x rw -", "1 2 3:4 / /x rw - "} {
		if got := ParseMounts([]byte(bad)); len(got) != 0 {
			t.Errorf("%q became %+v", bad, got)
		}
	}
}

// An overlay of hundreds of layers has a line that long. The mounts after it count as well.
func TestParseLongMount(t *testing.T) {
	t.Parallel()
	long := "41 27 0:41 / /merged rw - overlay overlay rw,lowerdir+=" + strings.Repeat("/a/very/long/layer:", 10_000) + "\n"
	ms := ParseMounts([]byte(long + mountinfo))
	if want := 1 + strings.Count(mountinfo, "\n"); len(ms) != want {
		t.Errorf("%d mounts, want %d", len(ms), want)
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

func FuzzParseMounts(f *testing.F) {
	for line := range strings.Lines(mountinfo) {
		f.Add([]byte(line))
	}
	f.Add([]byte("36 - ext4"))                                    // too few fields before the dash
	f.Add([]byte("26 24 0:24 / /dev/pts rw - devpts\n\n\n - \n")) // and after it, and lines of nothing
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, m := range ParseMounts(text) {
			if m.Device == "" || m.Kind == "" || m.Options == "" || len(m.Point) > len(text) {
				t.Errorf("%q became %+v", text, m)
			}
			m.MayHang()
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
