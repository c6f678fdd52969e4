package faults

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

	"culprit/test/harness"
)

// compileVillain compiles offender/villain.c, once, and returns its path.
var compileVillain = sync.OnceValues(func() (string, error) {
	path := filepath.Join(harness.Programs.Dir, "villain")
	out, err := exec.Command("cc", "-O2", "-static", "-o", path, "../offender/villain.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the villain: %w\n%s", err, out)
	}
	return path, os.Chmod(path, 0o755)
})

// villain is the program's path.
func villain(h *harness.Host) string {
	h.T.Helper()
	path, err := compileVillain()
	if err != nil {
		h.T.Fatal(err)
	}
	return path
}

// maxMemory is what the daemon may need at the most whatever happens, in bytes.
const maxMemory = 256 << 20

// lean fails the test if the daemon ever needed more memory than it may.
func lean(d *harness.Daemon) {
	d.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID))
	if err != nil {
		d.T.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
	if err != nil {
		d.T.Fatalf("the daemon's VmHWM cannot be read: %v\n%s", err, text)
	}
	d.T.Logf("the daemon needed %d MiB at the most", kb>>10)
	if kb<<10 > maxMemory {
		d.T.Errorf("the daemon needed %d MiB, want %d at most", kb>>10, maxMemory>>20)
	}
}

// tracesOn checks that programs that start now are traced, on a busy machine a little
// after their start.
func tracesOn(t *testing.T, d *harness.Daemon, uid uint32) {
	t.Helper()
	for _, r := range d.Host.Stream(uid, 2, 2, harness.Programs.OffenderC, "-b", "500", "-n", "LABEL.nextzone.test").Await() {
		if _, _, body := harness.ReadTrace(t, d.Trace(r.PID, "has ended", harness.Ended).File.Path); !harness.Asks(body, r.Label) {
			t.Errorf("the trace of %s does not hold its query:\n%s", r.Label, harness.Tail(body))
		}
	}
}

// tracedPID waits until somebody traces a process that is not ours to wait for.
func tracedPID(t testing.TB, pid int) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("process %d is traced", pid), func() error {
		if _, tracer := harness.Status(pid); tracer == 0 {
			return errors.New("nobody traces it")
		}
		return nil
	})
}

// onlyChild waits until a process has one child, and returns that.
func onlyChild(t testing.TB, pid int) (child int) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("process %d has a child", pid), func() error {
		all := harness.Children(pid)
		if len(all) != 1 {
			return fmt.Errorf("its children are %v", all)
		}
		child = all[0]
		return nil
	})
	return child
}
