package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// startScript is root's: it starts programs of a user in one way, some at a time, each of which
// asks for a name of its own. It prints their PIDs, and how often it saw one of them stopped.
const startScript = `
import os, socket, sys, time
uid, count, width, way, offender = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
code = """
import socket, sys
def ask(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(bytes(2) + b"\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\x01\\0\\x01", ("127.0.0.1", 53))
"""
exec(code)
if way == "memfd":
    fd = os.memfd_create("nothing")
    with open(offender, "rb") as f:
        os.write(fd, f.read())
def child(name):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if way == "fork":
        ask(name)
    elif way == "memfd":
        os.execve(fd, ["x", "-n", name], {})
    elif way == "loader":
        os.execv("/lib64/ld-linux-x86-64.so.2", ["ld.so", sys.executable, "-I", "-S", "-c", code + "ask(sys.argv[1])", name])
    else: # a program, perhaps a set-user-ID one
        os.execv(offender, [offender, "-n", name])
running, stops = set(), 0
def bury():
    global stops
    # Who waits for stopped children would notice a stop, so none would be stopped.
    pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
    if pid == 0:
        time.sleep(0.0005)
        return
    if os.WIFSTOPPED(status):
        stops += 1
        return
    running.discard(pid)
    if status != 0:
        print("failed", pid, status, flush=True)
for i in range(count):
    while len(running) >= width:
        bury()
    name = "%s%d.goodzone.test" % (way, i)
    pid = os.fork()
    if pid == 0:
        try:
            child(name)
            os._exit(0)
        finally:
            os._exit(99)
    running.add(pid)
    print("ran", pid, name, flush=True)
while running:
    bury()
print("stops", stops, flush=True)
`

// started lets root start programs of a user, and returns their names by PID, and how many of
// them root saw stopped.
func started(h *harness.Host, uid uint32, count, width int, way, program string) (names map[int]string, stops int) {
	h.T.Helper()
	p := h.StartAs(0, "python3", "-I", "-S", h.Write("start.py", startScript), fmt.Sprint(uid), fmt.Sprint(count), fmt.Sprint(width), way, program)
	if got := p.Wait(); got != 0 {
		h.T.Fatalf("it ended with %d: %s", got, p.Output)
	}
	names = map[int]string{}
	for line := range strings.Lines(p.Output.String()) {
		var pid int
		var name string
		switch {
		case strings.HasPrefix(line, "ran "):
			fmt.Sscanf(line, "ran %d %s", &pid, &name)
			names[pid] = name
		case strings.HasPrefix(line, "stops "):
			fmt.Sscanf(line, "stops %d", &stops)
		default:
			h.T.Errorf("root's program says %q", line)
		}
	}
	if len(names) != count {
		h.T.Errorf("%d programs started, want %d", len(names), count)
	}
	return names, stops
}

// Programs that no gate sees are traced from their first instruction: forks that execute nothing,
// what has no file, what the dynamic loader runs, set-user-ID programs. Programs of others are
// never stopped.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		way          string
		count, width int
	}{{"fork", 50, 1}, {"fork", 50, 16}, {"memfd", 20, 4}, {"loader", 5, 2}, {"program", 20, 4}} {
		t.Run(fmt.Sprintf("%s-%d", c.way, c.width), func(t *testing.T) {
			h := harness.NewHost(t, "")
			d := h.Hunt(harness.ByBPF(harness.Gated))
			uid, innocent := harness.NewUID(), harness.NewUID()
			d.Captured(uid)
			names, _ := started(h, uid, c.count, c.width, c.way, harness.Programs.OffenderC)
			for pid, name := range names {
				harness.Complete(t, d.Trace(pid, "has ended", harness.Ended), strings.TrimSuffix(name, ".goodzone.test"))
			}
			if _, stops := started(h, innocent, c.count, c.width, c.way, harness.Programs.OffenderC); stops > 0 {
				t.Errorf("%d programs of another user were stopped", stops)
			}
			if pid := d.Gate(); pid != 0 {
				t.Errorf("there is a gate, process %d", pid)
			}
			d.Capture(uid, "has missed nothing", func(c event.Capture) bool { return len(c.Culprit.Missed) == 0 && c.Culprit.Unheld == 0 })
			d.Stop()
			h.Unharmed(uid, innocent)
		})
	}
}

// A set-user-ID program of a captured user, started by another user, is held at its execve.
func TestHoldSetUserID(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.ByBPF(harness.Gated))
	uid, other := harness.NewUID(), harness.NewUID()
	d.Captured(uid)
	program := filepath.Join(h.Dir, "set-user-id")
	h.Must(t, "cp", harness.Programs.OffenderC, program)
	h.Must(t, "chown", fmt.Sprint(uid), program)
	h.Must(t, "chmod", "4755", program)
	names, stops := started(h, other, 3, 1, "program", program)
	if stops != 3 {
		t.Errorf("%d of 3 were stopped", stops)
	}
	for pid, name := range names {
		tr := d.Trace(pid, "has ended", harness.Ended)
		harness.Complete(t, tr, strings.TrimSuffix(name, ".goodzone.test"))
		if tr.Process.Executable != program {
			t.Errorf("the trace of %s, found by %s, is of %s", name, tr.Culprit.FoundBy, tr.Process.Executable)
		}
	}
	d.Stop()
	h.Unharmed(uid, other)
}

// taps lists the tracepoints that a process is attached to (man 2 bpf).
func taps(pid int) (points []string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if name, is := strings.CutPrefix(line, "tp_name:"); is {
				points = append(points, strings.TrimSpace(name))
			}
		}
	}
	return points
}

// When nothing is captured nothing is attached to what every process passes.
func TestHoldIdle(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {gate: bpf, linger: 1s, levels: [{hits: 1, processes: 1000, window: 2s}]}\n")
	attached := func(want int) error {
		n := 0
		for _, p := range taps(d.PID) {
			if p == "sys_exit" || p == "sched_process_exec" {
				n++
			}
		}
		if n != want {
			return fmt.Errorf("to %v", taps(d.PID))
		}
		return nil
	}
	if err := attached(0); err != nil {
		t.Errorf("attached before the first hit: %v", err)
	}
	for round := range 2 {
		s := h.Sender(harness.NewUID())
		s.Ask(fmt.Sprintf("q%d.badzone.test", round))
		harness.Eventually(t, "it is attached", func() error { return attached(2) })
		harness.Eventually(t, "it is not attached any more", func() error { return attached(0) })
		harness.Free(t, s.Process)
	}
	d.Stop()
}

// stopped counts the processes of a user that are stopped and not traced.
func stopped(uid uint32) (n int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		var st syscall.Stat_t
		if syscall.Stat(dir, &st) != nil || st.Uid != uid {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if state, tracer := harness.Status(pid); state == 'T' && tracer == 0 {
			n++
		}
	}
	return n
}

// Whoever is stopped goes on when the daemon, its thawer, or both are killed.
func TestHoldKilled(t *testing.T) {
	for _, who := range []string{"daemon", "thawer", "both"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			wrapper := filepath.Join(h.Dir, "strace")
			h.Write("strace", fmt.Sprintf("#!/bin/sh\n[ -e %s.hangs ] && exec sleep 10\nPATH=/usr/bin\nexec strace \"$@\"\n", wrapper))
			config, evidence := h.Configure(harness.ByBPF(harness.Gated))
			d := h.HuntWith(config, evidence, "PATH="+h.Dir+":"+os.Getenv("PATH"))
			uid := harness.NewUID()
			d.Captured(uid)
			h.Must(t, "touch", wrapper+".hangs")
			const workers = 3
			stream := h.Stream(uid, 0, workers, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
			thawer := d.Thawer()
			harness.Eventually(t, "each worker's program is stopped", func() error {
				if n := stopped(uid); n < workers {
					return fmt.Errorf("%d are", n)
				}
				return nil
			})
			if who != "thawer" {
				d.Signal(syscall.SIGKILL)
			}
			if who != "daemon" {
				syscall.Kill(thawer, syscall.SIGKILL)
			}
			if who == "both" {
				d.Wait()
				d = h.HuntWith(config, evidence) // which lets them go on
			}
			stream.GoesOn(6)
			h.Must(t, "rm", wrapper+".hangs")
			if who == "thawer" {
				d.AwaitLog("the sensor's helper failed")
				d.Capture(uid, "counts that the gate failed", func(c event.Capture) bool { return c.Culprit.GateFailures == 1 })
				harness.Eventually(t, "a program is stopped again", func() error {
					if pid := d.Thawer(); pid == 0 || pid == thawer || stopped(uid) == 0 {
						return errors.New("none is")
					}
					return nil
				})
			}
			stream.Finish(harness.Held)
			if who == "thawer" {
				d.NextWhole(t, uid)
			}
			if who == "daemon" {
				d.Wait()
				d.Gone()
			} else {
				d.Stop()
			}
			h.Unharmed(uid)
		})
	}
}

// Programs of a user that are never traced are not stopped again and again: not the children of
// one, nor once a capture has traced all that it may.
func TestHoldRefused(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	never := filepath.Join(h.Dir, "never")
	python, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		t.Skip(err)
	}
	h.Must(t, "cp", python, never)
	d := h.Hunt(harness.ByBPF(harness.Gated) + "guard: {never_executables: [" + never + "]}\n")
	uid := harness.NewUID()
	d.Captured(uid)
	p := h.StartAs(uid, never, "-I", "-S", "-c", `
import os
stops = 0
for i in range(100):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if done and os.WIFSTOPPED(status):
            stops += 1
        elif done:
            break
print("stops", stops)
`)
	if p.Wait() != 0 {
		t.Fatalf("it failed: %s", p.Output)
	}
	var stops int
	if fmt.Sscanf(p.Output.String(), "stops %d", &stops); stops > 5 {
		t.Errorf("of 100 children of a program that is never traced %d were stopped", stops)
	}
	d.Stop()
	h.Unharmed(uid)
}
