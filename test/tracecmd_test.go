package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// straceCommand is a command that culprit trace prints.
var straceCommand = regexp.MustCompile(`(?m)^strace -f -ttt -T -yy -v -s \d+ .*-p (\d+)$`)

// printed waits until culprit trace has printed so many strace commands, and
// returns their PIDs.
func printed(t *testing.T, p *process, n int) (pids []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("culprit trace prints %d strace commands", n), func() error {
		pids = nil
		for _, m := range straceCommand.FindAllStringSubmatch(p.output.String(), -1) {
			pids = append(pids, m[1])
		}
		if len(pids) != n {
			return fmt.Errorf("it printed:\n%s", p.output)
		}
		return nil
	})
	return pids
}

// The old trick: strace the present and the next processes of a user.
func TestTraceCommand(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	before := h.firewall()
	uid := newUID()
	present := h.start(uid, "sh", "-c", "read -r x; exit 3")
	innocent := h.idle(newUID())
	check := neverTraced(t, innocent.pid, os.Getpid())
	out := filepath.Join(h.dir, "out")
	p := h.start(0, programs.culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "3", "--for", "10m", "--out", out)
	printed(t, p, 1)
	second, third := h.sender(uid), h.idle(uid)
	printed(t, p, 3)
	fourth := h.idle(uid) // one too many
	fourth.stdin.Close()
	if got := fourth.wait(); got != 0 {
		t.Errorf("the fourth process ended with %d", got)
	}
	second.ask("asked.goodzone.test")
	present.stdin.Close()
	second.stdin.Close()
	present.wait()
	second.wait()
	if p.ended() {
		t.Errorf("it ended before the third process did:\n%s", p.output)
	}
	third.stdin.Close()
	third.wait()
	if got := p.wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	check()
	h.unchanged(before, "after culprit trace")

	said := p.output.String()
	for _, want := range []string{
		"tracing user " + fmt.Sprint(uid), "3 processes", "10m0s", out,
		fmt.Sprintf("process %d sh -c read -r x; exit 3: the process ended with status 3", present.pid),
		"3 traces in " + out + " (ended because its 3 processes were used up)",
		"grep -r",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Logf("it said:\n%s", said)
	}
	files, err := os.ReadDir(out)
	if err != nil || len(files) != 3 {
		t.Fatalf("the directory holds %v (%v), want 3 files", files, err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the directory is %v (%v), want the mode 0700", info, err)
	}
	all := ""
	for _, f := range files {
		path := filepath.Join(out, f.Name())
		if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s is %v (%v), want the mode 0600", path, info, err)
		}
		head, foot, body := readTrace(t, path)
		if head["hit"] != "none: started by hand" || !strings.HasPrefix(foot["ended"], "the process ended with status ") {
			t.Errorf("%s has the header %v and the footer %v", path, head, foot)
		}
		all += body
	}
	if !strings.Contains(all, `asked\10goodzone\4test`) {
		t.Errorf("no trace has the lookup that the second process did")
	}
}

// Ctrl-C lets go of what is traced, and says what is kept.
func TestTraceInterrupted(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	uid := newUID()
	s := h.sender(uid)
	out := filepath.Join(h.dir, "out")
	p := h.start(0, programs.culprit, "trace", "--uid", fmt.Sprint(uid), "--out", out)
	printed(t, p, 1)
	p.signal(syscall.SIGINT)
	if got := p.wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	free(t, s.process)
	if said := p.output.String(); !strings.Contains(said, "detached: culprit was stopped") || !strings.Contains(said, "1 trace in "+out) {
		t.Errorf("it should say that it let go, and what it kept:\n%s", said)
	}
	if files, err := os.ReadDir(out); err != nil || len(files) != 1 {
		t.Errorf("the directory holds %v (%v), want one file", files, err)
	}
}

// When the time is up it ends too; killed, it leaves nothing that is held up.
func TestTraceTime(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	uid := newUID()
	s := h.sender(uid)
	p := h.start(0, programs.culprit, "trace", "--uid", fmt.Sprint(uid), "--for", "1s", "--out", filepath.Join(h.dir, "out"))
	start := time.Now()
	if got := p.wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("it ended after %v, want a second", d)
	}
	if said := p.output.String(); !strings.Contains(said, "its time was up") {
		t.Errorf("it should say that its time was up:\n%s", said)
	}
	free(t, s.process)

	p = h.start(0, programs.culprit, "trace", "--uid", fmt.Sprint(uid), "--out", filepath.Join(h.dir, "out2"))
	traced(t, s.process)
	p.signal(syscall.SIGKILL)
	p.wait()
	free(t, s.process)
}

// By name, and by default into a directory that says whose traces they are.
func TestTraceByName(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	uid := newUID()
	h.Bind(t, "/etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nweb1:x:%d:%d::/:/bin/sh\n", uid, uid))
	s := h.sender(uid)
	// The command of the test's own is to be run in its directory.
	p := h.start(0, "sh", "-c", "cd "+h.dir+" && exec "+programs.culprit+" trace --user web1 --number 1")
	printed(t, p, 1)
	s.stdin.Close()
	if got := p.wait(); got != 0 {
		t.Errorf("it ended with %d, want 0:\n%s", got, p.output)
	}
	if dirs, _ := filepath.Glob(h.dir + "/culprit-trace-web1-*"); len(dirs) != 1 {
		t.Errorf("want one directory culprit-trace-web1-TIME: %v", dirs)
	}
	if said := p.output.String(); !strings.Contains(said, fmt.Sprintf("tracing user web1 (%d)", uid)) {
		t.Errorf("it said:\n%s", said)
	}
}

func TestTraceRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	out := filepath.Join(h.dir, "out")
	never := newUID()
	config, _ := h.configure(fmt.Sprintf("guard: {never_users: [%d]}\n", never))
	for _, c := range []struct {
		code int
		args string
		says string
	}{
		{1, "--uid 0", "the whole machine"},
		{1, "--user root", "the whole machine"},
		{1, fmt.Sprintf("--uid %d -c %s", never, config), "guard.never_users names the user"},
		{2, "--uid 1 --number 0", "--number"},
		{2, "--uid 1 --for 0s", "--for"},
		{2, "--uid 4294967295", "not a UID"},
		{2, "--user no-such-user", "no-such-user"},
		{2, "", "uid"},
		{2, "--uid 1 --user root", "uid"},
		{2, "--uid 1 web1", "web1"},
	} {
		args := append([]string{"trace", "--out", out}, strings.Fields(c.args)...)
		t.Run(c.args, func(t *testing.T) {
			h.t = t
			h.culprit(args...).fails(t, c.code, c.says)
		})
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("culprit trace %s left %s", c.args, out)
		}
	}
}
