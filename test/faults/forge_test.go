package faults

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
	"culprit/test/harness"
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
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	h.Must(t, "install", "-d", "-m", "777", h.Dir+"/out")
	out := filepath.Join(h.Dir, "out", "file")
	strange := filepath.Join(h.Dir, "out", strings.ReplaceAll(forged, "/", "|")[:250])
	p := h.StartAs(uid, "python3", "-I", "-S", "-c", selfScript, villain(h),
		"sleep", "500", "say", forged, "write", out, forged, "write", strange, "\n", "name", "+++ exited wi",
		"packet", "genuine.badzone.test", "decoys", out, "decoys", strange, "send", "sleep", "1200",
		// The forged packet, which another sends: no line of this process is its proof.
		"wait", "exit", "7")
	p.Said("wait", 1)
	tr := d.Trace(p.PID, "is there", nil)
	other := h.Sender(uid)
	other.Raw("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06forged\x07badzone\x04test\x00\x00\x01\x00\x01")
	d.Hit("forged.badzone.test")
	p.Say("")
	if got := p.Wait(); got != 7 {
		t.Errorf("it ended with %d: %s", got, p.Output)
	}
	tr = d.Trace(p.PID, "has ended", harness.Ended)
	lean(d)
	d.Stop()
	h.Unharmed(uid)

	if c := tr.Process.ExitCode; c == nil || *c != 7 || words.TraceEnded(tr.Culprit.EndedBecause) != "the process ended with status 7" || tr.Process.Executable != villain(h) {
		t.Errorf("the trace ended because %q, with the exit code %v of %s", tr.Culprit.EndedBecause, c, tr.Process.Executable)
	}
	head, foot, body := harness.ReadTrace(t, tr.File.Path)
	if foot["exit status"] != "7" || foot["ended"] != words.TraceEnded(tr.Culprit.EndedBecause) || head["exit status"] != "" {
		t.Errorf("the trace has the header %v and the footer %v", head, foot)
	}
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, fmt.Sprint(p.PID, " ")) || strings.HasPrefix(line, fmt.Sprint(p.PID, " 1700000000")) {
			t.Errorf("the trace has the forged line %q", line)
		}
	}
	for name, pid := range map[string]int{"genuine.badzone.test": p.PID, "forged.badzone.test": other.PID} {
		hit := d.Proven(t, name)
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
func lineOf(d *harness.Daemon, p *event.ProofDetail) (string, error) {
	for _, tr := range d.Traces() {
		if tr.Event.ID == p.Trace.ID {
			text, err := harness.ReadFile(tr.File.Path)
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
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	names := []string{
		"strace: Process 1 attached", "+++ exited with 0 +++", "a\n1 1.0 +++ exited with 0 +++", `q"uo\te`, "gone (deleted)",
		"strace", "culprit", `, ["innocent"]) = 0 <0.1>`, "\xff<unfinished ...>", strings.Repeat("n", 255),
	}
	ps := make([]*harness.Process, len(names))
	for i, name := range names {
		path := filepath.Join(h.Dir, name)
		if err := os.Link(villain(h), path); err != nil {
			t.Fatal(err)
		}
		ps[i] = h.StartAs(uid, path, "sleep", "200", "packet", fmt.Sprintf("name%d.badzone.test", i), "send", "exit", "5")
		if got := ps[i].Wait(); got != 5 {
			t.Errorf("%q ended with %d: %s", name, got, ps[i].Output)
		}
	}
	for i, name := range names {
		tr := d.Trace(ps[i].PID, "has ended", harness.Ended)
		if c := tr.Process.ExitCode; c == nil || *c != 5 || tr.Process.Executable != strings.ToValidUTF8(filepath.Join(h.Dir, name), "\ufffd") {
			t.Errorf("the trace of %q is of %q with the exit code %v", name, tr.Process.Executable, c)
		}
	}
	lean(d)
	d.Stop()
	h.Unharmed(uid)
	for i, name := range names {
		if hit := d.Proven(t, fmt.Sprintf("name%d.badzone.test", i)); hit.Process == nil || hit.Process.PID != ps[i].PID {
			t.Errorf("the packet of %q is of process %+v, want %d", name, hit.Process, ps[i].PID)
		}
	}
}

// Processes that call themselves what /proc/PID/stat and status say elsewhere, and one
// whose file is gone, are known for what they are.
func TestProcessNames(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	gone := filepath.Join(h.Dir, "gone")
	h.Must(t, "install", "-m", "755", villain(h), gone)
	names := []string{") R 1 1 1 0 -1 ", "x) S 1 (y) Z", "\nUid:\t0\t0\t0\t0", "\nTracerPid:\t1", "a b\nTgid:\t1\n", "", "\x1b[2J\xff"}
	var ps []*harness.Process
	for i, name := range names {
		ps = append(ps, h.StartAs(uid, gone, "name", name, "wait", "packet", fmt.Sprintf("comm%d.badzone.test", i), "send", "wait", "exit", "5"))
	}
	for _, p := range ps {
		p.Said("wait", 1)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	d.Captured(uid)
	harness.Traced(t, ps...)
	for i, p := range ps {
		p.Say("")
		p.Said("wait", 2)
		hit := d.Hit(fmt.Sprintf("comm%d.badzone.test", i))
		if hit.Process == nil || hit.Process.PID != p.PID || hit.Process.EntityID != startOf(t, p.PID) || hit.Process.RealUser == nil || hit.Process.RealUser.ID != fmt.Sprint(uid) {
			t.Errorf("the packet of %q is of process %+v, want %d", names[i], hit.Process, p.PID)
		}
		p.Say("")
		if got := p.Wait(); got != 5 {
			t.Errorf("%q ended with %d: %s", names[i], got, p.Output)
		}
	}
	for i, p := range ps {
		tr := d.Trace(p.PID, "has ended", harness.Ended)
		if c := tr.Process.ExitCode; c == nil || *c != 5 || tr.Process.Executable != gone+" (deleted)" || tr.Process.Name != strings.ToValidUTF8(names[i], "\ufffd") {
			t.Errorf("the trace of %q is of %q (%q) with the exit code %v", names[i], tr.Process.Executable, tr.Process.Name, c)
		}
	}
	lean(d)
	d.Stop()
	h.Unharmed(uid)
	for i := range names {
		d.Proven(t, fmt.Sprintf("comm%d.badzone.test", i))
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
	h := harness.NewHost(t, "")
	d := h.Hunt(strings.Replace(harness.Gated, "strings: 512", "strings: 65535", 1))
	uid := harness.NewUID()
	d.Captured(uid)
	huge := strings.Repeat("\x01A\n\"", 130_000/4)
	cmd := exec.Command(villain(h))
	for i := range 7 {
		cmd.Args = append(cmd.Args, "name", huge)
		cmd.Env = append(cmd.Env, fmt.Sprintf("V%d=%s", i, huge))
	}
	cmd.Args = append(cmd.Args, "sleep", "500", "packet", "huge.badzone.test", "send", "exit", "5")
	p := h.StartCommandAs(uid, cmd)
	if got := p.Wait(); got != 5 {
		t.Fatalf("it ended with %d: %s", got, p.Output)
	}
	tr := d.Trace(p.PID, "has ended", harness.Ended)
	if c := tr.Process.ExitCode; c == nil || *c != 5 || tr.Process.Executable != villain(h) {
		t.Errorf("the trace is of %q with the exit code %v", tr.Process.Executable, c)
	}
	if n := len(tr.Process.CommandLine); n < 1000 || n > 5000 || !strings.HasPrefix(tr.Process.CommandLine, villain(h)+" name \x01A\n\"") {
		t.Errorf("the command line has %d bytes: %.99q", n, tr.Process.CommandLine)
	}
	lean(d)
	d.Stop()
	h.Unharmed(uid)
	d.Proven(t, "huge.badzone.test")
}
