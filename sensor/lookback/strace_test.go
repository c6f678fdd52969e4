package lookback

import (
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/strace"
)

const nobody = 65534

// A process in the test: what this binary does if it is started with this in its environment.
const behave = "LOOKBACK_TEST_BEHAVE"

func TestMain(m *testing.M) {
	if to := os.Getenv(behave); to != "" {
		act(to)
		return
	}
	os.Exit(m.Run())
}

// act does a little of everything that is recorded.
func act(to string) {
	dir, _ := os.MkdirTemp("", "lookback")
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "a \"file\"\n\x01\x012")
	os.WriteFile(name, []byte("x"), 0o640)
	os.Rename(name, name+"2")
	os.Chmod(name+"2", 0o600)
	os.Open(filepath.Join(dir, strings.Repeat("x", 300)))
	os.Open(filepath.Join(dir, strings.Repeat("y", 256-len(dir)-1))) // as long as is kept
	os.Remove(name + "2")
	c, err := net.Dial("udp", to)
	if err != nil {
		panic(err)
	}
	c.Write([]byte("\x124\x01\x00\x00\x01hello\xff\"\\"))
	c.Write([]byte(strings.Repeat("long", 100)))
	buf := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(time.Second))
	c.Read(buf)
	c.Write([]byte("again"))
	receive(c.(*net.UDPConn))
	u, _ := net.ListenPacket("udp", "127.0.0.1:0")
	addr, _ := net.ResolveUDPAddr("udp", to)
	u.WriteTo([]byte("unconnected"), addr)
	exec.Command("/bin/sh", "-c", "cat /etc/hostname; /bin/true 'an argument'; kill -9 $$").Run()
	exec.Command("/nonexistent/program").Run()
	syscall.Exec("/nonexistent/program", []string{"an", "argument"}, nil)
}

// receive receives a message at the end of memory that is there, into a buffer that is longer.
func receive(c *net.UDPConn) {
	const page, left = 4096, 64
	memory, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(err)
	}
	unix.Mprotect(memory[page:], unix.PROT_NONE)
	raw, _ := c.SyscallConn()
	raw.Read(func(fd uintptr) bool {
		_, _, _, _, err := unix.Recvmsg(int(fd), memory[page-left:], nil, 0)
		return err != unix.EAGAIN
	})
}

func answer(t *testing.T) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for buf := make([]byte, 1000); ; {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo([]byte("an answer"), from)
		}
	}()
	return c.LocalAddr().String()
}

// What strace and the recorder show of the same processes is the same, line by line.
func TestLikeStrace(t *testing.T) {
	t.Run("newer", func(t *testing.T) { likeStrace(t, true) })
	t.Run("older", func(t *testing.T) { likeStrace(t, false) })
}

func likeStrace(t *testing.T, newer bool) {
	program, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace")
	}
	u, err := user.LookupId(strconv.Itoa(nobody))
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	self := filepath.Join(dir, "self")
	copyFile(t, os.Args[0], self)
	out := filepath.Join(dir, "out")
	r := record(t, Config{Users: []uint32{nobody}, Strings: 256, Memory: 8 << 20}, newer)
	cmd := exec.Command(program, "-f", "-ttt", "-T", "-yy", "-s", "256", "-u", u.Username, "-o", out, self, "one", "two")
	cmd.Env = append(os.Environ(), behave+"="+answer(t), "TMPDIR=/tmp")
	cmd.Dir = "/tmp"
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	text, _ := os.ReadFile(out)
	want, pids := fromStrace(string(text))
	var got []string
	for pid := range pids {
		s := r.Read(Sender{ID: findStart(r, pid)})
		var b []byte
		for i := range s.Events {
			if s.Events[i].Process.PID == pid {
				b = s.Append(b, &s.Events[i])
			}
		}
		for line := range strings.Lines(string(b)) {
			got = append(got, normal(line))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	for _, line := range want {
		if i := slices.Index(got, line); i >= 0 {
			got = slices.Delete(got, i, i+1)
		} else {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if strings.HasPrefix(line, "setreuid(65534, 65534") { // strace's own, before it starts the program
			continue
		}
		t.Errorf("more:    %s", line)
	}
}

// findStart returns the process with that PID, from the ring.
func findStart(r *Recorder, pid int) (id proc.ID) {
	r.walk(new(Story), 0, func(b []byte) bool { return int(u32(b, recPID)) == pid }, func(b []byte) {
		id = processOf(b)
	})
	return id
}

var (
	took    = regexp.MustCompile(` <\d+\.\d+>$`)
	file    = regexp.MustCompile(`(\d|AT_FDCWD)<[^<>\[]*(<char [^>]*>)?>`)
	deleted = regexp.MustCompile(`\(deleted\)`)
	socket  = regexp.MustCompile(`<([A-Za-z0-9]+):\[[^>]*\]>`)
	env     = regexp.MustCompile(`\], 0x[0-9a-f]+.*\)`)
	failed  = regexp.MustCompile(`^(execve\("[^"]*"), .* = -1`) // its arguments are not recorded
	starts  = regexp.MustCompile(`^(clone3)\(.*\)( => {[^}]*})?|, (parent_tid|child_tidptr)=[^,)]*`)
	long    = regexp.MustCompile(`x{100,}"(\.\.\.)?`) // strace does not cut paths
	room    = regexp.MustCompile(`msg_namelen=\d+ => `)
	spaces  = regexp.MustCompile(`\)? += `)
)

// normal removes from a line what differs by nature: times, names of files, and addresses.
func normal(line string) string {
	_, _, text := strace.ParseLine([]byte(strings.TrimSpace(line)))
	s := took.ReplaceAllString(string(text), "")
	s = deleted.ReplaceAllString(s, "")
	s = file.ReplaceAllString(s, "$1")
	s = socket.ReplaceAllString(s, "<$1>")
	s = failed.ReplaceAllString(s, "$1 = -1")
	s = env.ReplaceAllString(s, "], ENV)")
	if i := strings.LastIndex(s, " = "); i >= 0 { // of a result: 3<UDP:[17]>
		s = s[:i] + socket.ReplaceAllString(strings.ReplaceAll(s[i:], "<UDP>", ""), "")
	}
	s = long.ReplaceAllString(s, "X")
	s = room.ReplaceAllString(s, "msg_namelen=") // what it was before the call
	s = starts.ReplaceAllString(s, "$1")
	return strings.TrimSpace(spaces.ReplaceAllString(s, " = "))
}

// fromStrace returns the lines of recorded calls, and the processes.
func fromStrace(text string) (lines []string, pids map[int]bool) {
	recorded := map[string]bool{}
	for _, c := range calls() {
		recorded[c.name] = true
	}
	pids = map[int]bool{}
	begun := map[int]string{}
	threads := map[int]bool{}
	for line := range strings.Lines(text) {
		tid, _, text := strace.ParseLine([]byte(strings.TrimSpace(line)))
		if text == nil {
			continue
		}
		s := string(text)
		if text.Kind() == strace.KindResumed {
			_, rest, _ := strings.Cut(s, " resumed>")
			s = begun[tid] + rest
		}
		if b, ok := strace.CutUnfinished([]byte(s)); ok {
			begun[tid] = strings.TrimSuffix(string(b), " ")
			continue
		}
		name, _, _ := strings.Cut(s, "(")
		if strings.Contains(s, "CLONE_THREAD") {
			n, _ := strconv.Atoi(strings.TrimSpace(took.ReplaceAllString(s[strings.LastIndex(s, "= ")+2:], "")))
			threads[n] = true
		}
		pids[tid] = true
		switch {
		case text.Kind() == strace.KindEnd:
			lines = append(lines, s)
			continue
		case !recorded[name]:
			continue
		case (name == "read" || name == "write") && !strings.Contains(s, "<UDP:"):
			continue
		case (name == "read" || name == "recvmsg") && strings.Contains(s, "= -1"):
			continue
		case name == "mmap" && (!strings.Contains(s, "PROT_EXEC") || strings.Contains(s, "MAP_ANONYMOUS")):
			continue
		case name == "prctl" && !strings.Contains(s, "PR_SET_NAME"):
			continue
		}
		lines = append(lines, normal(strconv.Itoa(tid)+" 1.1 "+s))
	}
	for tid := range threads {
		delete(pids, tid)
	}
	return lines, pids
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
