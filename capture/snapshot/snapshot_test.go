package snapshot

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// sender has a UDP socket, a connected TCP socket (descriptor 3, inherited) and a file, and
// sleeps in a function of its own.
const sender = `
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
__attribute__((noinline)) static void ask(void) { pause(); }
int main(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	bind(socket(AF_INET, SOCK_DGRAM, 0), (struct sockaddr *)&a, sizeof a);
	open("/etc/passwd", O_RDONLY);
	ask();
	return 0;
}
`

// Everything that there is to know of a static and of a dynamic program is in its snapshot.
func TestTake(t *testing.T) {
	t.Parallel()
	stack := FindStack()
	if stack == "" && os.Getenv("CI") != "" {
		t.Fatal("there is no eu-stack: scripts/deps.sh test")
	}
	for _, linked := range []string{"-static", "-rdynamic"} {
		program := compiled(t, sender, linked)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()

		cmd := exec.CommandContext(t.Context(), program, "one", "t w\no")
		cmd.Dir, cmd.Env, cmd.ExtraFiles = t.TempDir(), []string{"SECRET=x y", "EMPTY="}, []*os.File{file}
		id := stopped(t, cmd)
		k, m := taker(t, stack)
		s := take(t, k, m, id)

		p, d := &s.Process, &s.Culprit
		content, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if p.Executable != program || p.PID != id.PID || p.EntityID != id.String() || p.WorkingDirectory != cmd.Dir || p.Parent == nil || p.Parent.PID != os.Getpid() {
			t.Errorf("%s: process %+v", linked, p.Process)
		}
		if !slices.Equal(p.Args, cmd.Args) || !slices.Equal(p.EnvVars, cmd.Env) || p.Hash == nil || p.Hash.SHA256 != digest(content) {
			t.Errorf("%s: args %q, env %q, hash %v", linked, p.Args, p.EnvVars, p.Hash)
		}
		if p.RealUser.ID != "0" || p.User.ID != "0" || p.SavedUser.ID != "0" || d.FSUser.ID != "0" || p.RealGroup.ID != "0" || d.Threads != 1 || d.Cgroup == "" {
			t.Errorf("%s: who it is: %+v %+v", linked, p, d)
		}
		if !slices.ContainsFunc(d.Maps, func(m event.Mapping) bool { return m.Path == program && strings.Contains(m.Permissions, "x") }) {
			t.Errorf("%s: maps %+v", linked, d.Maps)
		}
		if !slices.ContainsFunc(d.Files, func(f event.OpenFile) bool { return f.Path == "/etc/passwd" && f.Access == "r" }) {
			t.Errorf("%s: files %+v", linked, d.Files)
		}
		if len(d.Sockets) != 2 || d.Sockets[0].Remote != listener.Addr().String() || d.Sockets[0].Protocol != "tcp" ||
			d.Sockets[1].Type != "dgram" || !strings.HasPrefix(d.Sockets[1].Local, "127.0.0.1:") || d.Sockets[1].Remote != "" {
			t.Errorf("%s: sockets %+v", linked, d.Sockets)
		}
		if r := d.Registers; r == nil || r.Syscall != unix.SYS_PAUSE || r.TID != id.PID || r.PC == "" || r.SP == "" {
			t.Errorf("%s: registers %+v", linked, r)
		}
		if d.Replaceable != nil != (d.KeptExecutable != nil) {
			t.Errorf("%s: %+v is kept as %+v", linked, d.Replaceable, d.KeptExecutable)
		}
		if stack == "" {
			continue
		}
		var calls []string
		for _, f := range d.Stack {
			calls = append(calls, f.Function)
		}
		if !slices.Contains(calls, "ask") || !slices.Contains(calls, "main") || d.Stack[0].Address != d.Registers.PC[:2]+strings.Repeat("0", 18-len(d.Registers.PC))+d.Registers.PC[2:] {
			t.Errorf("%s: stack %+v, registers %+v", linked, d.Stack, d.Registers)
		}
		if got := missing(s); got != "" {
			t.Errorf("%s: incomplete: %s", linked, got)
		}
		attaches(t, id.PID)
	}
}

// attaches checks that strace can attach to a process after its snapshot.
func attaches(t *testing.T, pid int) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace")
	}
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-o", out, "-p", itoa(pid))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "strace attaches", func() bool {
		text, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "status"))
		return strings.Contains(string(text), fmt.Sprintf("TracerPid:\t%d\n", cmd.Process.Pid))
	})
	unix.Kill(pid, unix.SIGCONT)
	wait(t, "it goes on", func() bool {
		st, err := proc.Default.Stat(pid)
		text, _ := os.ReadFile(out)
		return err == nil && st.State == 'S' && len(text) > 0
	})
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
}

// Interpreters are programs like others.
func TestInterpreters(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	for name, args := range map[string][]string{"php": {"-r", "sleep(1000);"}, "python3": {"-c", "import time; time.sleep(1000)"}} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		id := stopped(t, exec.CommandContext(t.Context(), path, args...))
		k, m := taker(t, FindStack())
		s := take(t, k, m, id)
		if !slices.Equal(s.Process.Args[1:], args) || s.Process.Hash == nil || len(s.Culprit.Maps) < 5 {
			t.Errorf("%s: %+v", name, s.Process)
		}
		if FindStack() != "" && (len(s.Culprit.Stack) < 3 || !strings.HasSuffix(s.Culprit.Stack[0].Module, ".so.6")) {
			t.Errorf("%s: stack %+v; %s", name, s.Culprit.Stack, missing(s))
		}
	}
}

// A program without a file can be read, and is kept: of a memfd, or deleted.
func TestWithoutName(t *testing.T) {
	t.Parallel()
	program := compiled(t, sender, "-static")
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.MemfdCreate("evil", 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(memory), "memfd")
	defer file.Close()
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	fromMemory := exec.CommandContext(t.Context(), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), memory))
	k, m := taker(t, FindStack())
	for want, cmd := range map[event.ReplaceableCode]*exec.Cmd{
		event.ReplaceableMemory:  fromMemory,
		event.ReplaceableDeleted: exec.CommandContext(t.Context(), program),
	} {
		id := stopped(t, cmd)
		if want == event.ReplaceableDeleted {
			if err := os.Remove(program); err != nil {
				t.Fatal(err)
			}
		}
		s := take(t, k, m, id)
		d := &s.Culprit
		if d.Replaceable == nil || d.Replaceable.Code != want {
			t.Errorf("%s: it is in a place that is %+v", want, d.Replaceable)
		}
		if s.Process.Hash == nil || s.Process.Hash.SHA256 != digest(content) || d.KeptExecutable == nil || string(m.copies[s.Process.Hash.SHA256]) != string(content) {
			t.Errorf("%s: hash %v, kept %v", want, s.Process.Hash, d.KeptExecutable)
		}
		if FindStack() != "" && len(d.Stack) == 0 {
			t.Errorf("%s: no stack: %s", want, missing(s))
		}
	}
}

// A program that has become another user has all of its ids in its snapshot.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	program := compiled(t, `
#define _GNU_SOURCE
#include <grp.h>
#include <sys/types.h>
#include <unistd.h>
int main(void) {
	gid_t groups[] = {4401, 4402};
	setgroups(2, groups);
	setresgid(4243, 4243, 4244);
	setresuid(4242, 4243, 4244);
	pause();
}`)
	os.Chmod(filepath.Dir(program), 0o755)
	id := stopped(t, exec.CommandContext(t.Context(), program))
	k, m := taker(t, FindStack())
	s := take(t, k, m, id)
	p := &s.Process
	got := []string{p.RealUser.ID, p.User.ID, p.SavedUser.ID, s.Culprit.FSUser.ID, p.RealGroup.ID, p.Group.ID, p.SavedGroup.ID, s.Culprit.FSGroup.ID, fmt.Sprint(p.Supplementary)}
	if want := []string{"4242", "4243", "4244", "4243", "4243", "4243", "4244", "4243", "[{4401} {4402}]"}; !slices.Equal(got, want) {
		t.Errorf("ids %q, want %q", got, want)
	}
}

// However much a process has, its snapshot has a bound, and counts what is left out.
func TestLarge(t *testing.T) {
	t.Parallel()
	program := compiled(t, `
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
	struct rlimit r = {4000, 4000};
	setrlimit(RLIMIT_NOFILE, &r);
	for (int i = 0; i < 1000; i++)
		open("/etc/passwd", O_RDONLY);
	for (int i = 0; i < 1000; i++)
		socket(AF_INET, SOCK_DGRAM, 0);
	int f = open("/proc/self/exe", O_RDONLY), z = open("/etc/passwd", O_RDONLY);
	for (int i = 0; i < 3000; i++)
		mmap(0, 4096, PROT_READ, MAP_PRIVATE, i % 2 ? f : z, 0);
	pause();
}`)
	cmd := exec.CommandContext(t.Context(), program)
	for i := range 500 {
		cmd.Args = append(cmd.Args, strings.Repeat("<", 100+i))
		cmd.Env = append(cmd.Env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 300)))
	}
	id := stopped(t, cmd)
	k, m := taker(t, FindStack())
	began := time.Now()
	s := take(t, k, m, id)
	t.Logf("took %s, stood still for %s", time.Since(began), time.Duration(s.Event.Duration))
	b, err := json.Marshal(s)
	if err != nil || len(b) > event.MaxDocument {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	d := &s.Culprit
	inherited := 0 // by every test
	for _, f := range d.Files {
		if f.Path != "/etc/passwd" && f.Path != program {
			inherited++
		}
	}
	for part, n := range map[event.SnapshotPart]int{
		event.PartArgs: len(s.Process.Args), event.PartEnvironment: len(s.Process.EnvVars),
		event.PartFiles: len(d.Files), event.PartSockets: len(d.Sockets),
	} {
		total := map[event.SnapshotPart]int{event.PartArgs: 501, event.PartEnvironment: 500, event.PartFiles: 1002 + inherited, event.PartSockets: 1000}[part]
		if n == 0 || n+d.LeftOut[part] != total {
			t.Errorf("%s: %d, and %d left out, of %d", part, n, d.LeftOut[part], total)
		}
	}
	if len(d.Maps) == 0 || d.LeftOut[event.PartMaps] == 0 {
		t.Errorf("%d maps, %d left out", len(d.Maps), d.LeftOut[event.PartMaps])
	}
}

// A process that is gone, or another by now, has no snapshot.
func TestGone(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	id := stopped(t, exec.CommandContext(t.Context(), "sleep", "1000"))
	k, _ := taker(t, FindStack())
	other := id
	other.Start++
	if s := k.Take(Request{ID: other, Limit: time.Second}); s != nil {
		t.Errorf("a snapshot of another process: %+v", s.doc)
	}
	unix.Kill(id.PID, unix.SIGKILL)
	wait(t, "it ends", func() bool { return !k.is(id) })
	s := k.Take(Request{ID: id, Limit: time.Second})
	if s != nil {
		t.Errorf("a snapshot of nobody: %+v", s.doc)
	}
	s.Record(true) // does nothing
}

// eu-stack that hangs, floods, fails or is not there: the process does not wait, and the
// snapshot says so.
func TestStackTrouble(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	for _, c := range []struct {
		name, script string
		want         string
		frames       int
	}{
		{"hangs", "#!/bin/sh\nexec sleep 1000\n", "stack:time:", 0},
		{"hangs with a child", "#!/bin/sh\nsleep 1000\n", "stack:time:", 0},
		{"says why", "#!/bin/sh\necho 'eu-stack: dwfl_linux_proc_attach pid 1: Operation not permitted' >&2\nexit 2\n", "stack:failed:dwfl_linux_proc_attach pid 1: Operation not permitted", 0},
		{"partly", "#!/bin/sh\necho '#0  0x00007fbe7e190dd0 pause - /lib/a - b.so'\necho 'eu-stack: no more' >&2\nexit 1\n", "stack:partly:no more", 1},
		{"floods", "#!/bin/sh\nwhile :; do echo '#0  0x00007fbe7e190dd0 pause'; done\n", "stack:time:", -1},
		{"nothing", "#!/bin/sh\n", "stack:failed:eu-stack shows nothing", 0},
		{"no program", "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "eu-stack")
			if c.script != "" {
				if err := os.WriteFile(path, []byte(c.script), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			id := stopped(t, exec.CommandContext(t.Context(), "sleep", "1000"))
			k, m := taker(t, path)
			began := time.Now()
			s := taken(t, k, m, id, time.Second)
			if time.Since(began) > 10*time.Second {
				t.Errorf("it took %s", time.Since(began))
			}
			if got := missing(s); got != c.want && (c.want != "" || !strings.Contains(got, "stack:failed:start")) {
				t.Errorf("incomplete: %s, want %s", got, c.want)
			}
			if n := len(s.Culprit.Stack); n != c.frames && c.frames >= 0 || n > maxFrames {
				t.Errorf("%d frames, want %d", n, c.frames)
			}
		})
	}
}

// Killed at any instant, eu-stack leaves the process as it was.
func TestKilledStack(t *testing.T) {
	t.Parallel()
	if FindStack() == "" {
		t.Skip("there is no eu-stack")
	}
	program := compiled(t, `
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
static void *wait_for(void *a) { for (;;) pause(); return a; }
static void *count(void *a) { for (volatile long *n = a; ; ++*n) ; return a; }
int main(int argc, char **argv) {
	pthread_t p = argc;
	for (int i = 0; i < 5; i++) pthread_create(&p, 0, wait_for, 0);
	volatile long *n = mmap(0, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, open(argv[1], O_RDWR), 0);
	pthread_create(&p, 0, count, (void *)n);
	while (*n == 0) sched_yield();
	sleep(1000);
}`, "-pthread")
	counter := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(counter, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	count := func() string {
		b, err := os.ReadFile(counter)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	id := stopped(t, exec.CommandContext(t.Context(), program, counter))
	wait(t, "every thread stops", func() bool {
		states, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", id.PID))
		return !slices.ContainsFunc(states, func(path string) bool {
			text, _ := os.ReadFile(path)
			return !strings.Contains(string(text), ") T ")
		})
	})
	before := count()
	k, _ := taker(t, FindStack())
	late := 0
	for i := range 200 {
		s := k.Take(Request{ID: id, Limit: time.Duration(i) * 100 * time.Microsecond})
		standsStill(t, id)
		if s == nil {
			t.Fatal("no snapshot")
		}
		if strings.Contains(missing(s.doc), "stack:time") {
			late++
		}
		s.close()
		if t.Failed() {
			return
		}
	}
	t.Logf("eu-stack was killed %d times of 200", late)
	if count() != before || before == string(make([]byte, 4096)) {
		t.Error("the process has gone on meanwhile")
	}
	attaches(t, id.PID)
}

// Who stands still because of a debugger is not touched by us, and the snapshot says it.
func TestTraced(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	if FindStack() == "" {
		t.Skip("there is no eu-stack")
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	id := stopped(t, cmd)
	strace := exec.CommandContext(t.Context(), "strace", "-o", "/dev/null", "-p", itoa(id.PID))
	if err := strace.Start(); err != nil {
		t.Skip("there is no strace")
	}
	defer strace.Wait()
	defer strace.Process.Signal(unix.SIGTERM)
	k, m := taker(t, FindStack())
	wait(t, "strace attaches", func() bool {
		st, err := k.FS.Status(id.PID)
		return err == nil && st.TracerPID != 0
	})
	s := k.Take(Request{ID: id, Limit: 10 * time.Second})
	s.Record(true)
	if got := missing(m.final(t, id)); !strings.Contains(got, "stack:failed:") || !strings.Contains(got, "not permitted") {
		t.Errorf("incomplete: %s", got)
	}
}
