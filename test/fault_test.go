package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// What the tests of faults share. The faults, and the test that shows each, are
// listed in docs/reliability.md.

// villain compiles offender/villain.c, once, and returns its path.
var villain = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs.dir, "villain")
	out, err := exec.Command("cc", "-O2", "-static", "-o", path, "offender/villain.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the villain: %w\n%s", err, out)
	}
	return path, os.Chmod(path, 0o755)
})

// villain is the program's path.
func (h *host) villain() string {
	h.t.Helper()
	path, err := villain()
	if err != nil {
		h.t.Fatal(err)
	}
	return path
}

// said waits until a process has printed a text so many times.
func (p *process) said(text string, times int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%.99q says %q", p.cmd.Args, text), func() error {
		if n := strings.Count(p.output.String(), text); n < times {
			return fmt.Errorf("%d times, want %d: it said %q", n, times, p.output)
		}
		return nil
	})
}

// maxMemory is what the daemon may need at the most whatever happens, in bytes.
const maxMemory = 256 << 20

// lean fails the test if the daemon ever needed more memory than it may.
func (d *daemon) lean() {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
	if err != nil {
		d.t.Fatalf("the daemon's VmHWM cannot be read: %v\n%s", err, text)
	}
	d.t.Logf("the daemon needed %d MiB at the most", kb>>10)
	if kb<<10 > maxMemory {
		d.t.Errorf("the daemon needed %d MiB, want %d at most", kb>>10, maxMemory>>20)
	}
}

// tracesOn checks that programs that start now are traced, on a busy machine a little
// after their start.
func (d *daemon) tracesOn(t *testing.T, uid uint32) {
	t.Helper()
	for _, r := range d.host.stream(uid, 2, 2, programs.offenderC, "-b", "500", "-n", "LABEL.nextzone.test").await() {
		if _, _, body := readTrace(t, d.trace(r.pid, "has ended", ended).File.Path); !asks(body, r.label) {
			t.Errorf("the trace of %s does not hold its query:\n%s", r.label, tail(body))
		}
	}
}

// tracedPID waits until somebody traces a process that is not ours to wait for.
func tracedPID(t testing.TB, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d is traced", pid), func() error {
		if _, tracer := status(pid); tracer == 0 {
			return errors.New("nobody traces it")
		}
		return nil
	})
}

// onlyChild waits until a process has one child, and returns that.
func onlyChild(t testing.TB, pid int) (child int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d has a child", pid), func() error {
		all := children(pid)
		if len(all) != 1 {
			return fmt.Errorf("its children are %v", all)
		}
		child = all[0]
		return nil
	})
	return child
}
