package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

// The old trick: strace the present and the next processes of a user.
func TestTraceCommand(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	before := h.Firewall()
	uid := harness.NewUID()
	present := h.StartAs(uid, "sh", "-c", "read -r x; exit 3")
	innocent := h.Idle(harness.NewUID())
	check := harness.NeverTraced(t, innocent.PID, os.Getpid())
	out := filepath.Join(h.Dir, "out")
	p := h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "3", "--for", "10m", "--out", out)
	harness.Printed(t, p, 1)
	second, third := h.Sender(uid), h.Idle(uid)
	harness.Printed(t, p, 3)
	fourth := h.Idle(uid) // one too many
	fourth.Stdin.Close()
	if got := fourth.Wait(); got != 0 {
		t.Errorf("the fourth process ended with %d", got)
	}
	second.Ask("asked.goodzone.test")
	present.Stdin.Close()
	second.Stdin.Close()
	present.Wait()
	second.Wait()
	if p.Ended() {
		t.Errorf("it ended before the third process did:\n%s", p.Output)
	}
	third.Stdin.Close()
	third.Wait()
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	check()
	h.Unchanged(before, "after culprit trace")

	said := p.Output.String()
	for _, want := range []string{
		"tracing user " + fmt.Sprint(uid), "3 processes", "10m0s", out,
		fmt.Sprintf("process %d sh -c read -r x; exit 3: the process ended with status 3", present.PID),
		"3 traces in " + out + " (ended because its limit of 3 processes was reached)",
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
		head, foot, body := harness.ReadTrace(t, path)
		if head["hit"] != "none: started by hand" || !strings.HasPrefix(foot["ended"], "the process ended with status ") {
			t.Errorf("%s has the header %v and the footer %v", path, head, foot)
		}
		all += body
	}
	if !strings.Contains(all, `asked\10goodzone\4test`) {
		t.Errorf("no trace has the lookup that the second process did")
	}
}

// A child of root that becomes the user and starts no program lives for a moment only: the kernel
// stops it, and its trace has all that it did as the user. The first one waits until it is traced, as the
// kernel is told a moment after culprit says that it traces.
func TestTraceForks(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	out := filepath.Join(h.Dir, "out")
	p := h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "3", "--for", "10m", "--out", out)
	p.Said("tracing user", 1)
	root := h.StartAs(0, "python3", "-I", "-S", "-c", fmt.Sprintf(`
import os
for i in range(3):
    if os.fork() == 0:
        os.setuid(%d)
        while i == 0 and "TracerPid:\t0\n" in open("/proc/thread-self/status").read():
            pass
        os.access("/child%%d" %% i, os.R_OK)
        os._exit(0)
    os.wait()`, uid))
	root.Wait()
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d: %s", got, p.Output)
	}
	traces, _ := filepath.Glob(out + "/*")
	var all strings.Builder
	for _, name := range traces {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for i := range 3 {
		if call := fmt.Sprintf(`"/child%d"`, i); !strings.Contains(all.String(), call) {
			t.Errorf("no trace has the call about %s:\n%s\n%s", call, p.Output, &all)
		}
	}
}

// Ctrl-C lets go of what is traced, and says what is kept.
func TestTraceInterrupted(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	s := h.Sender(uid)
	out := filepath.Join(h.Dir, "out")
	p := h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--out", out)
	harness.Printed(t, p, 1)
	p.Signal(syscall.SIGINT)
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	harness.Free(t, s.Process)
	if said := p.Output.String(); !strings.Contains(said, "detached: culprit was stopped") || !strings.Contains(said, "1 trace in "+out) {
		t.Errorf("it should say that it let go, and what it kept:\n%s", said)
	}
	if files, err := os.ReadDir(out); err != nil || len(files) != 1 {
		t.Errorf("the directory holds %v (%v), want one file", files, err)
	}
}

// When the time is up it ends too; killed, it leaves nothing that is held up.
func TestTraceTime(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	s := h.Sender(uid)
	p := h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--for", "1s", "--out", filepath.Join(h.Dir, "out"))
	start := time.Now()
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("it ended after %v, want a second", d)
	}
	if said := p.Output.String(); !strings.Contains(said, "its time was up") {
		t.Errorf("it should say that its time was up:\n%s", said)
	}
	harness.Free(t, s.Process)

	p = h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--out", filepath.Join(h.Dir, "out2"))
	harness.Traced(t, s.Process)
	p.Signal(syscall.SIGKILL)
	p.Wait()
	harness.Free(t, s.Process)
}

// By name, and by default into a directory that says whose traces they are.
func TestTraceByName(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	h.Bind(t, "/etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nweb1:x:%d:%d::/:/bin/sh\n", uid, uid))
	s := h.Sender(uid)
	// The command of the test's own is to be run in its directory.
	p := h.StartAs(0, "sh", "-c", "cd "+h.Dir+" && exec "+harness.Programs.Culprit+" trace --user web1 --number 1")
	harness.Printed(t, p, 1)
	s.Stdin.Close()
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d, want 0:\n%s", got, p.Output)
	}
	if dirs, _ := filepath.Glob(h.Dir + "/culprit-trace-web1-*"); len(dirs) != 1 {
		t.Errorf("want one directory culprit-trace-web1-TIME: %v", dirs)
	}
	if said := p.Output.String(); !strings.Contains(said, fmt.Sprintf("tracing user web1 (%d)", uid)) {
		t.Errorf("it said:\n%s", said)
	}
}

func TestTraceRefuses(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	out := filepath.Join(h.Dir, "out")
	never := harness.NewUID()
	config, _ := h.Configure(fmt.Sprintf("guard: {never_users: [%d]}\n", never))
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
			h.T = t
			h.Culprit(args...).Fails(t, c.code, c.says)
		})
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("culprit trace %s left %s", c.args, out)
		}
	}
}
