package proc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 8675309 1000000 50\n"
	for comm, line := range map[string]string{
		"bash":     "7 (bash)" + rest,
		"a) R 2 (": "7 (a) R 2 ()" + rest,
		"x\ny":     "7 (x\ny)" + rest,
	} {
		s, err := parseStat([]byte(line))
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		want := Stat{ID: ID{7, 8675309}, Comm: comm, State: 'S', PPID: 1, Flags: 4194304, Threads: 1}
		if s != want {
			t.Errorf("%q: got %+v, want %+v", line, s, want)
		}
	}
	for _, bad := range []string{"", "7", "7 (x", "7 (x) S 1", "x (x)" + rest, ")(" + rest} {
		if s, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q became %+v", bad, s)
		}
	}
}

// A process that has given back its memory has ended, though its state is that of one that runs. One
// whose first thread has ended has not, if it has others.
func TestDead(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"7 (php) R 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 8675309 1000000 50": false,
		"7 (php) R 1 7 7 0 -1 4194308 100 0 0 0 1 2 0 0 20 0 1 0 8675309 0 0":        true,
		"7 (php) Z 1 7 7 0 -1 4194308 100 0 0 0 1 2 0 0 20 0 2 0 8675309 0 0":        false,
		"7 (php) Z 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 8675309 0 0":        true,
	} {
		if s, err := parseStat([]byte(line)); err != nil || s.Dead() != want {
			t.Errorf("%q: dead is %t (%v)", line, s.Dead(), err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	s, err := parseStatus([]byte("Name:\ta\nTgid:\t812\nPid:\t813\nTracerPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\n"))
	want := Status{TGID: 812, TracerPID: 9, UID: IDs{1, 2, 3, 4}, GID: IDs{5, 6, 7, 8}}
	if err != nil || s != want {
		t.Errorf("got %+v (%v), want %+v", s, err, want)
	}
	for _, bad := range []string{"", "Uid:\t1\nGid:\t1\n", "Tgid:\t1\nTracerPid:\t0\nUid:\tx\t1\t1\t1\nGid:\t1\t1\t1\t1\n"} {
		if s, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q became %+v", bad, s)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	cmd.Dir = "/tmp"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	deadline := time.Now().Add(30 * time.Second)
	for { // fork has happened, but perhaps not execve
		if args, _ := Default.Args(cmd.Process.Pid); strings.Join(args, " ") == "sleep 60" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("sleep does not start")
		}
	}
	p, err := Default.Describe(cmd.Process.Pid, new(Users))
	if err != nil {
		t.Fatal(err)
	}
	if p.CommandLine != "sleep 60" || p.WorkingDirectory != "/tmp" || !strings.HasSuffix(p.Executable, "sleep") {
		t.Errorf("got %+v", p)
	}
	if age := time.Since(p.Start); age < -50*time.Millisecond || age > 10*time.Second {
		t.Errorf("started %v ago", age)
	}
	if p.Parent == nil || p.Parent.PID != os.Getpid() {
		t.Fatalf("parent %+v, want us", p.Parent)
	}
	top := &p
	for top.Parent != nil {
		top = top.Parent
	}
	if top.PID != 1 {
		t.Errorf("the chain of parents ends at %d", top.PID)
	}
	self, err := Default.Stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !Default.IsDescendant(cmd.Process.Pid, func(id ID) bool { return id == self.ID }) {
		t.Error("our child is not found to be ours")
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Default.Describe(cmd.Process.Pid, new(Users)); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestHoldsSocket(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) })
	if err != nil {
		t.Fatal(err)
	}
	if !Default.HoldsSocket(os.Getpid(), st.Ino) {
		t.Error("our own socket is not found")
	}
	if Default.HoldsSocket(os.Getpid(), st.Ino+1<<40) {
		t.Error("a socket that does not exist is found")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("7 (bash) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 8675309 1000000 50\n"))
	f.Add([]byte("Tgid:\t812\nTracerPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"))
	f.Add([]byte("7 (a) b) S 1"))                                                    // a name like the end of a name, and too few fields
	f.Add([]byte("7 (a) S x 7 7 0 -1 -4 100 0 0 0 1 2 0 0 20 0 1 0 86753091000000")) // where numbers are expected
	f.Add([]byte("Uid:\t1\t-2\t3\nGid:\t5\t6\t7\t8\n"))                              // three ids, and lines that are missing
	f.Fuzz(func(t *testing.T, b []byte) {
		parseStat(b)
		parseStatus(b)
	})
}

func BenchmarkStatus(b *testing.B) {
	for b.Loop() {
		if _, err := Default.Status(os.Getpid()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestParseExecve(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		fmt.Sprintf("%d 0x1 0x7ffd10 0x3 0x0 0x0 0x0 0x7ffe 0x7fff\n", unix.SYS_EXECVE):      0x7ffd10,
		fmt.Sprintf("%d 0xffffff9c 0x1 0x20 0x3 0x0 0x0 0x7ffe 0x7fff\n", unix.SYS_EXECVEAT): 0x20,
		"0 0x1 0x2 0x3 0x0 0x0 0x0 0x7ffe 0x7fff\n":                                          0,
		"running\n":          0,
		"-1 0x7ffe 0x7fff\n": 0,
	} {
		if argv, ok := parseExecve(in); argv != want || ok != (want != 0) {
			t.Errorf("%q: %#x, %v", in, argv, ok)
		}
	}
}

func TestRan(t *testing.T) {
	t.Parallel()
	if ran, err := Default.Ran(os.Getpid()); !errors.Is(err, ErrGone) && (err != nil || ran == 0) {
		t.Errorf("this process ran %d ns, %v", ran, err)
	}
	if _, err := Default.Ran(1 << 30); err == nil {
		t.Error("nobody ran")
	}
}
