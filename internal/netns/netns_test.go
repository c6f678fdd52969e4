package netns

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// tap makes a device in the calling thread's network namespace, and returns its descriptor. The node is a test's own, as a machine
// may have none that it may open, or none at all.
func tap(t *testing.T, node string) *os.File {
	const iffTap, iffNoPI = 0x2, 0x1000 // linux/if_tun.h
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		t.Errorf("open the node of TUN: %v", err)
		return nil
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	request.flags = iffTap | iffNoPI
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		t.Errorf("make a device: %v", errno)
	}
	return f
}

// A process serves those namespaces of which it holds a device, whatever it is called, and not its own.
func TestServed(t *testing.T) {
	t.Parallel()
	here, there := testkit.NewNet(t), testkit.NewNet(t)
	node := filepath.Join(t.TempDir(), "node")
	const major, minor = 10, 200
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	var ours, theirs *os.File
	var want uint32
	here.Do(func() { ours = tap(t, node) })
	there.Do(func() {
		theirs = tap(t, node)
		var st unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
			t.Error(err)
		}
		want = uint32(st.Ino)
	})
	if t.Failed() {
		t.FailNow()
	}
	defer ours.Close()
	defer theirs.Close()
	for _, tt := range []struct {
		name  string
		files []*os.File
		want  []Namespace
	}{
		{"none", nil, nil},
		{"its own", []*os.File{ours}, nil},
		{"another", []*os.File{ours, theirs, theirs}, []Namespace{{want, 0}}},
	} {
		cmd := exec.Command("sleep", "1000")
		cmd.ExtraFiles = tt.files
		if err := here.Start(cmd); err != nil {
			t.Fatal(err)
		}
		got, err := Served(proc.Default, cmd.Process.Pid)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil || len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
			t.Errorf("%s: %v (%v), want %v", tt.name, got, err, tt.want)
		}
	}
}

// A namespace belongs to the user who made the user namespace that it is in.
func TestOwner(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	const uid = 4242
	cmd := exec.Command("setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", "unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	got, err := Of(proc.Default, cmd.Process.Pid)
	if err != nil || got.Owner != uid {
		t.Errorf("%+v (%v), want the owner %d", got, err, uid)
	}
	if inode, err := Inode(proc.Default, cmd.Process.Pid); err != nil || inode != got.Inode {
		t.Errorf("inode %d (%v), want %d", inode, err, got.Inode)
	}
	if got, err := Of(proc.Default, os.Getpid()); err != nil || got.Owner != 0 {
		t.Errorf("ours: %+v, %v", got, err)
	}
}

// Looking for devices costs so much more than what is read of each process.
func BenchmarkServed(b *testing.B) {
	testkit.Root(b)
	users := new(proc.Users)
	b.Run("describe", func(b *testing.B) {
		for b.Loop() {
			_, _ = proc.Default.Describe(os.Getpid(), users)
		}
	})
	b.Run("few", func(b *testing.B) {
		for b.Loop() {
			_, _ = Served(proc.Default, os.Getpid())
		}
	})
	var files []*os.File
	for range maxFDs {
		r, w, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, r, w)
	}
	b.Run("many", func(b *testing.B) {
		for b.Loop() {
			_, _ = Served(proc.Default, os.Getpid())
		}
	})
	for _, f := range files {
		f.Close()
	}
}
