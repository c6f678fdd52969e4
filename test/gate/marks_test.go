package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/testkit"
	"culprit/test/harness"
)

// marks counts the fanotify marks of a process that raise events.
func marks(t *testing.T, pid int) int {
	t.Helper()
	n, _ := testkit.FanotifyMarks(t, pid)
	return n
}

// While nothing is captured nobody waits for the gate.
func TestGateIdle(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {gate: fanotify, linger: 1s, levels: [{hits: 1, processes: 1000, window: 2s}]}\n")
	harness.Eventually(t, "the gate is up, without marks", func() error {
		if d.Gate() == 0 || !strings.Contains(fdsOf(d.Gate()), "fanotify") {
			return errors.New("it is not")
		}
		return nil
	})
	if n := marks(t, d.Gate()); n != 0 {
		t.Errorf("the gate has %d marks before the first hit", n)
	}
	for round := range 2 {
		s := h.Sender(harness.NewUID())
		s.Ask(fmt.Sprintf("q%d.badzone.test", round))
		harness.Eventually(t, "the gate has marks", func() error {
			if marks(t, d.Gate()) == 0 {
				return errors.New("it has none")
			}
			return nil
		})
		harness.Eventually(t, "the marks are gone", func() error {
			if n := marks(t, d.Gate()); n > 0 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		harness.Free(t, s.Process)
	}
	d.Stop()
}

func fdsOf(pid int) (all string) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		all += to + "\n"
	}
	return all
}
