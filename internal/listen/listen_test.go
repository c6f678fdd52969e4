package listen

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// private returns a directory that nobody else can write to, all the way up.
func private(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "listen-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSocketIsOursAlone(t *testing.T) {
	old := unix.Umask(0) // so that it does not matter
	defer unix.Umask(old)
	path := filepath.Join(private(t), "new", "culprit.sock")
	l, err := On(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]os.FileMode{path: os.ModeSocket | 0o600, filepath.Dir(path): os.ModeDir | 0o700} {
		if info, err := os.Lstat(what); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v, want %v", what, info.Mode(), err, want)
		}
	}
	if _, err := On(t.Context(), "unix", path); err == nil || !strings.Contains(err.Error(), "another program listens on "+path) {
		t.Errorf("a second listener: %v", err)
	}
	l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSocketOfTheDead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(private(t), "culprit.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := On(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// A file that is not a socket is not removed.
func TestNoSocket(t *testing.T) {
	t.Parallel()
	for what, make := range map[string]func(string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a link":      func(path string) error { return os.Symlink("/nowhere", path) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(private(t), "culprit.sock")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := On(t.Context(), "unix", path); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone: %v", what, err)
		}
	}
}

// There is no socket in a directory that others can write to, nor below one.
func TestOthersDirectories(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("gives directories to others: needs root")
	}
	for what, c := range map[string]struct {
		mode    os.FileMode // of the parent of the socket's directory
		dirMode os.FileMode
		owner   int // of the socket's directory
		says    string
	}{
		"ours":                   {0o755, 0o755, 0, ""},
		"a group's":              {0o755, 0o770, 0, "can be written to by others"},
		"everybody's":            {0o755, 0o777, 0, "can be written to by others"},
		"everybody's and sticky": {0o755, os.ModeSticky | 0o777, 0, "can be written to by others"},
		"another user's":         {0o755, 0o700, 64_000_000, "belongs to user 64000000"},
		"below everybody's":      {0o777, 0o700, 0, "can be written to by others"},
		"below a sticky one":     {os.ModeSticky | 0o777, 0o700, 0, ""},
	} {
		parent := filepath.Join(private(t), "parent")
		dir := filepath.Join(parent, "dir")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{os.Chmod(parent, c.mode), os.Chmod(dir, c.dirMode), os.Chown(dir, c.owner, 0)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		l, err := On(t.Context(), "unix", filepath.Join(dir, "culprit.sock"))
		if err == nil {
			l.Close()
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
		// A symbolic link to it does not help.
		link := filepath.Join(private(t), "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		l, err = On(t.Context(), "unix", filepath.Join(link, "culprit.sock"))
		if err == nil {
			l.Close()
		}
		if (err == nil) != (c.says == "") {
			t.Errorf("%s, by a link: %v", what, err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	first, err := On(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := On(t.Context(), "tcp", first.Addr().String()); err == nil || !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("the same port again: %v", err)
	}
}
