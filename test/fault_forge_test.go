package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/words"
)

// selfScript becomes a program whose arguments know their own PID.
const selfScript = `import os, sys; os.execv(sys.argv[1], [a.replace("SELF", str(os.getpid())) for a in sys.argv[1:]])`

// forged is what strace and we could have written.
const forged = "\nSELF 1700000000.000001 +++ exited with 0 +++\n" +
	`SELF 1700000000.000002 sendto(3<UDP:[127.0.0.1:9->127.0.0.1:53]>, "\0224\1\0\0\1\0\0\0\0\0\0\6forged\7badzone\4test\0\0\1\0\1", 37, 0, NULL, 0) = 37 <0.000010>` + "\n" +
	`SELF 1700000000.000003 execve("/bin/innocent", ["innocent"], [/* 0 vars */]) = 0 <0.000010>` + "\n" +
	"# ended: forged\n# exit status: 0\n"

// What a program writes, into files, into their names, into its arguments and its
// name, is never taken for what strace or we have written.
func TestForgedLines(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	d.captured(uid)
	h.Must(t, "install", "-d", "-m", "777", h.dir+"/out")
	out := filepath.Join(h.dir, "out", "file")
	strange := filepath.Join(h.dir, "out", strings.ReplaceAll(forged, "/", "|")[:250])
	p := h.start(uid, "python3", "-I", "-S", "-c", selfScript, h.villain(),
		"sleep", "500", "say", forged, "write", out, forged, "write", strange, "\n", "name", "+++ exited wi",
		"packet", "genuine.badzone.test", "decoys", out, "decoys", strange, "send", "sleep", "1200",
		// The forged packet, which another sends: no line of this process is its proof.
		"wait", "exit", "7")
	p.said("wait", 1)
	tr := d.trace(p.pid, "is there", nil)
	other := h.sender(uid)
	other.raw("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06forged\x07badzone\x04test\x00\x00\x01\x00\x01")
	d.hit("forged.badzone.test")
	p.say("")
	if got := p.wait(); got != 7 {
		t.Errorf("it ended with %d: %s", got, p.output)
	}
	tr = d.trace(p.pid, "has ended", ended)
	d.lean()
	d.stop()
	h.unharmed(uid)

	if c := tr.Process.ExitCode; c == nil || *c != 7 || words.TraceEnded(tr.Culprit.EndedBecause) != "the process ended with status 7" || tr.Process.Executable != h.villain() {
		t.Errorf("the trace ended because %q, with the exit code %v of %s", tr.Culprit.EndedBecause, c, tr.Process.Executable)
	}
	head, foot, body := readTrace(t, tr.File.Path)
	if foot["exit status"] != "7" || foot["ended"] != words.TraceEnded(tr.Culprit.EndedBecause) || head["exit status"] != "" {
		t.Errorf("the trace has the header %v and the footer %v", head, foot)
	}
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, fmt.Sprint(p.pid, " ")) || strings.HasPrefix(line, fmt.Sprint(p.pid, " 1700000000")) {
			t.Errorf("the trace has the forged line %q", line)
		}
	}
	for name, pid := range map[string]int{"genuine.badzone.test": p.pid, "forged.badzone.test": other.pid} {
		hit := d.proven(t, name)
		if proof := hit.Culprit.Proof; proof == nil || proof.TID != pid || proof.Syscall != "sendto" || hit.Process == nil || hit.Process.PID != pid || hit.Culprit.Count != 1 {
			t.Errorf("%s, %d times, is of process %+v by the proof %+v; want %d", name, hit.Culprit.Count, hit.Process, proof, pid)
			continue
		}
		line, err := lineOf(d, hit.Culprit.Proof)
		if err != nil || !strings.Contains(line, "sendto(") || !strings.Contains(line, "->127.0.0.1:53]>") {
			t.Errorf("the proof of %s is the line %q, %v; want the one to port 53", name, line, err)
		}
	}
}

// lineOf reads the line of a proof.
func lineOf(d *daemon, p *event.ProofDetail) (string, error) {
	for _, tr := range d.traces() {
		if tr.Event.ID == p.Trace.ID {
			text, err := readFile(tr.File.Path)
			if err != nil {
				return "", err
			}
			line, _, _ := strings.Cut(string(text[p.Offset:]), "\n")
			return line, nil
		}
	}
	return "", os.ErrNotExist
}

// Programs whose files are named like something else are what they are.
func TestProgramNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	d.captured(uid)
	names := []string{
		"strace: Process 1 attached", "+++ exited with 0 +++", "a\n1 1.0 +++ exited with 0 +++", `q"uo\te`, "gone (deleted)",
		"strace", "culprit", `, ["innocent"]) = 0 <0.1>`, "\xff<unfinished ...>", strings.Repeat("n", 255),
	}
	ps := make([]*process, len(names))
	for i, name := range names {
		path := filepath.Join(h.dir, name)
		if err := os.Link(h.villain(), path); err != nil {
			t.Fatal(err)
		}
		ps[i] = h.start(uid, path, "sleep", "200", "packet", fmt.Sprintf("name%d.badzone.test", i), "send", "exit", "5")
		if got := ps[i].wait(); got != 5 {
			t.Errorf("%q ended with %d: %s", name, got, ps[i].output)
		}
	}
	for i, name := range names {
		tr := d.trace(ps[i].pid, "has ended", ended)
		if c := tr.Process.ExitCode; c == nil || *c != 5 || tr.Process.Executable != strings.ToValidUTF8(filepath.Join(h.dir, name), "\ufffd") {
			t.Errorf("the trace of %q is of %q with the exit code %v", name, tr.Process.Executable, c)
		}
	}
	d.lean()
	d.stop()
	h.unharmed(uid)
	for i, name := range names {
		if hit := d.proven(t, fmt.Sprintf("name%d.badzone.test", i)); hit.Process == nil || hit.Process.PID != ps[i].pid {
			t.Errorf("the packet of %q is of process %+v, want %d", name, hit.Process, ps[i].pid)
		}
	}
}

// Processes that call themselves what /proc/PID/stat and status say elsewhere, and one
// whose file is gone, are known for what they are.
func TestProcessNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	gone := filepath.Join(h.dir, "gone")
	h.Must(t, "install", "-m", "755", h.villain(), gone)
	names := []string{") R 1 1 1 0 -1 ", "x) S 1 (y) Z", "\nUid:\t0\t0\t0\t0", "\nTracerPid:\t1", "a b\nTgid:\t1\n", "", "\x1b[2J\xff"}
	var ps []*process
	for i, name := range names {
		ps = append(ps, h.start(uid, gone, "name", name, "wait", "packet", fmt.Sprintf("comm%d.badzone.test", i), "send", "wait", "exit", "5"))
	}
	for _, p := range ps {
		p.said("wait", 1)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	d.captured(uid)
	traced(t, ps...)
	for i, p := range ps {
		p.say("")
		p.said("wait", 2)
		hit := d.hit(fmt.Sprintf("comm%d.badzone.test", i))
		if hit.Process == nil || hit.Process.PID != p.pid || hit.Process.EntityID != startOf(t, p.pid) || hit.Process.RealUser == nil || hit.Process.RealUser.ID != fmt.Sprint(uid) {
			t.Errorf("the packet of %q is of process %+v, want %d", names[i], hit.Process, p.pid)
		}
		p.say("")
		if got := p.wait(); got != 5 {
			t.Errorf("%q ended with %d: %s", names[i], got, p.output)
		}
	}
	for i, p := range ps {
		tr := d.trace(p.pid, "has ended", ended)
		if c := tr.Process.ExitCode; c == nil || *c != 5 || tr.Process.Executable != gone+" (deleted)" || tr.Process.Name != strings.ToValidUTF8(names[i], "\ufffd") {
			t.Errorf("the trace of %q is of %q (%q) with the exit code %v", names[i], tr.Process.Executable, tr.Process.Name, c)
		}
	}
	d.lean()
	d.stop()
	h.unharmed(uid)
	for i := range names {
		d.proven(t, fmt.Sprintf("comm%d.badzone.test", i))
	}
}

// startOf is the identity of a process, from the last fields of /proc/PID/stat.
func startOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	var start uint64
	if _, err := fmt.Sscan(fields[len(fields)-31], &start); err != nil { // 22 of 52, man 5 proc
		t.Fatal(err)
	}
	return proc.ID{PID: pid, Start: start}.String()
}

// A command line and an environment of two megabytes.
func TestHugeCommandLine(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(strings.Replace(gated, "strings: 512", "strings: 65535", 1))
	uid := newUID()
	d.captured(uid)
	huge := strings.Repeat("\x01A\n\"", 130_000/4)
	cmd := exec.Command(h.villain())
	for i := range 7 {
		cmd.Args = append(cmd.Args, "name", huge)
		cmd.Env = append(cmd.Env, fmt.Sprintf("V%d=%s", i, huge))
	}
	cmd.Args = append(cmd.Args, "sleep", "500", "packet", "huge.badzone.test", "send", "exit", "5")
	p := h.startCommand(uid, cmd)
	if got := p.wait(); got != 5 {
		t.Fatalf("it ended with %d: %s", got, p.output)
	}
	tr := d.trace(p.pid, "has ended", ended)
	if c := tr.Process.ExitCode; c == nil || *c != 5 || tr.Process.Executable != h.villain() {
		t.Errorf("the trace is of %q with the exit code %v", tr.Process.Executable, c)
	}
	if n := len(tr.Process.CommandLine); n < 1000 || n > 5000 || !strings.HasPrefix(tr.Process.CommandLine, h.villain()+" name \x01A\n\"") {
		t.Errorf("the command line has %d bytes: %.99q", n, tr.Process.CommandLine)
	}
	d.lean()
	d.stop()
	h.unharmed(uid)
	d.proven(t, "huge.badzone.test")
}
