package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// TestInside: a user is who the container says, through the maps of its user namespace. What the
// container makes of its passwd harms nobody.
func TestInside(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	n := newNode(t)
	n.cgroup("docker/"+id1, 0)
	n.write("var/lib/docker/containers/"+id1+"/config.v2.json", `{"ID":"`+id1+`","Name":"/web-1"}`)
	n.process(7, "/docker/"+id1)
	n.write("proc/7/uid_map", "         0     100000      65536\n     65536       1000          1\n")
	n.write("proc/7/root/etc/passwd", "# a comment\nbroken:x\nroot:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/false\n")
	n.cgroup("user", 1000)
	n.process(8, "/user/docker-"+id1+".scope") // only claims to be in it
	n.write("proc/8/uid_map", "0 0 4294967295\n")
	user := func(pid int, uid uint32) string {
		u := event.User{ID: fmt.Sprint(uid), Name: "somebody"}
		n.Inside(pid, nil, &u)
		return u.String()
	}
	check := func(what string, pid int, uid uint32, want string) {
		t.Helper()
		clear(n.names)
		if got := user(pid, uid); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	check("a user", 7, 100033, "100033 (www-data in web-1)")
	check("a user without a name", 7, 100034, "100034 (34 in web-1)")
	check("the last line of the map", 7, 1000, "1000 (65536 in web-1)")
	check("a user who is not there", 7, 4242, "somebody (4242)")
	check("a claimed container", 8, 33, "somebody (33)")

	passwd := n.path("proc/7/root/etc/passwd")
	n.write("proc/7/root/etc/passwd", "\x1b[2J"+strings.Repeat("a", 5000)+":x:33:\n")
	check("a long name", 7, 100033, "100033 (\x1b[2J"+strings.Repeat("a", maxUserName-len(`\u001b[2J`))+"… in web-1)")
	for what, make := range map[string]func() error{
		"a pipe":                      func() error { return unix.Mkfifo(passwd, 0o644) },
		"a device":                    func() error { return unix.Mknod(passwd, unix.S_IFCHR|0o644, int(unix.Mkdev(5, 1))) },
		"a link out of the container": func() error { return os.Symlink("../../../../../../../../etc/passwd", passwd) },
		"a link to itself":            func() error { return os.Symlink("passwd", passwd) },
		"a directory":                 func() error { return os.Mkdir(passwd, 0o755) },
		"no end":                      func() error { return os.WriteFile(passwd, []byte("x\n"+strings.Repeat("#", maxFile)), 0o600) },
	} {
		if err := os.RemoveAll(passwd); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		check(what, 7, 100000, "100000 (0 in web-1)")
	}
}

// TestCgroupID: the id that the kernel gives of a cgroup leads to its path.
func TestCgroupID(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	m := findMounts(proc.Default)
	point, ok := m[""]
	if !ok {
		t.Skip("cgroup v2 is not mounted here")
	}
	dir, err := os.MkdirTemp(point, "culprit-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if path, err := m.path(st.Ino); err != nil || path != "/"+filepath.Base(dir) {
		t.Errorf("got %q, %v for %s", path, err, dir)
	}
	if path, err := m.path(1 << 60); err == nil {
		t.Errorf("got %q for an id that nobody has", path)
	}
}

func FuzzInside(f *testing.F) {
	f.Add("0 100000 65536\n65536 1000 1\n", "root:x:0:0::/:/bin/sh\n", uint32(100000))
	f.Add("4294967295 0 4294967295\n", "a:b:0\n:::\n:x:0:\n", uint32(1)) // an end beyond the last UID, and half lines
	f.Fuzz(func(t *testing.T, uids, passwd string, uid uint32) {
		parseUIDMap(uids).inside(uid)
		if name := findUser([]byte(passwd), uid); len(name) > maxUserName+len("…") {
			t.Errorf("a name of %d bytes", len(name))
		}
	})
}
