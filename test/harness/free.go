package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Held is how long a program may be held up when something is wrong with the gate.
// The deadline and the watchdog are shorter by far; machines that test are busy ones.
const Held = 10 * time.Second

// Unharmed checks that no process of the users is stopped or traced, and that
// programs can be started.
func (h *Host) Unharmed(uids ...uint32) {
	h.T.Helper()
	Within(h.T, Held, "no process is stopped or traced", func() error {
		for _, uid := range uids {
			if err := AllFree(uid); err != nil {
				return err
			}
		}
		return nil
	})
	start := time.Now()
	for _, uid := range append(uids, 0) {
		if p := h.StartAs(uid, "true"); p.Wait() != 0 {
			h.T.Errorf("true as user %d ended with %d", uid, p.Wait())
		}
	}
	if took := time.Since(start); took > Held {
		h.T.Errorf("starting %d programs took %v", len(uids)+1, took)
	}
}

// AllFree says which process of a user is stopped or traced; nil if none is.
func AllFree(uid uint32) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var st syscall.Stat_t
		if syscall.Stat(dir, &st) != nil || st.Uid != uid {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if state, tracer := Status(pid); tracer != 0 || state == 'T' || state == 't' {
			args, _ := os.ReadFile(dir + "/cmdline")
			return fmt.Errorf("process %d (%q) of user %d is in state %c and traced by %d", pid, args, uid, state, tracer)
		}
	}
	return nil
}

// Status reads a process's state (R, S, T, t, Z, …) and tracer from /proc; the
// state 0 is gone.
func Status(pid int) (state byte, tracer int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "State":
			state = value[0]
		case "TracerPid":
			tracer, _ = strconv.Atoi(value)
		}
	}
	return state, tracer
}

// Traced waits until somebody traces the processes.
func Traced(t testing.TB, ps ...*Process) {
	t.Helper()
	for _, p := range ps {
		Eventually(t, fmt.Sprintf("process %d %v is traced", p.PID, p.Cmd.Args), func() error {
			if _, tracer := Status(p.PID); tracer == 0 {
				return errors.New("nobody traces it")
			}
			return nil
		})
	}
}

// Free waits until the processes go on untraced.
func Free(t testing.TB, ps ...*Process) {
	t.Helper()
	for _, p := range ps {
		Eventually(t, fmt.Sprintf("process %d %v goes on untraced", p.PID, p.Cmd.Args), func() error { return IsFree(p.PID) })
	}
}

// IsFree says why a process does not go on untraced; nil if it does.
func IsFree(pid int) error {
	switch state, tracer := Status(pid); {
	case state == 0 || state == 'Z':
		return errors.New("it is dead")
	case tracer != 0:
		return fmt.Errorf("process %d traces it", tracer)
	case state == 'T' || state == 't':
		return errors.New("it is stopped")
	}
	return nil
}

// NeverTraced looks at processes again and again until the function it returns is
// called, which fails the test if one of them was ever traced.
func NeverTraced(t testing.TB, pids ...int) (check func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	caught := map[int]int{}
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, pid := range pids {
				if _, tracer := Status(pid); tracer != 0 {
					caught[pid] = tracer
				}
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	end := sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(end)
	return func() {
		t.Helper()
		end()
		for pid, tracer := range caught {
			t.Errorf("process %d must never be traced, but process %d did", pid, tracer)
		}
	}
}
