package capture

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/capture/finder"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/words"
)

// One hit, and the processes that are there and those that come are traced; at
// the end they live on untraced.
func TestHitIsFollowed(t *testing.T) {
	const uid = 64301
	k, m := control(t, "", nil)
	there := sleeper(t, uid, "exec sleep 60")
	k.Hit(hitOf(t, "64301", 0))
	m.eventually(t, "the present process is traced", func() bool { return m.only().Culprit.Traces == 1 })
	comes := sleeper(t, uid, "exec sleep 61")
	m.eventually(t, "the next process is traced, as what it became", func() bool {
		for _, tr := range m.traces {
			if tr.Process.PID == comes && tr.Process.CommandLine == "sleep 61" {
				return true
			}
		}
		return false
	})
	k.Hit(hitOf(t, "64301", comes))
	m.eventually(t, "the second hit joins", func() bool { return m.only().Culprit.Hits == 2 && len(m.hits) == 2 })
	for _, h := range m.hits {
		if h.Culprit.Capture == nil || h.Culprit.Capture.ID != m.only().Event.ID {
			t.Errorf("hit %+v is not of capture %s", h, m.only().Event.ID)
		}
	}
	syscall.Kill(comes, syscall.SIGTERM)
	m.eventually(t, "its end is told", func() bool {
		for _, tr := range m.traces {
			if tr.Process.PID == comes && tr.Culprit.State == event.StateEnded {
				return *tr.Process.ExitCode == 143 && tr.Culprit.Hit.ID == m.hits[0].Event.ID
			}
		}
		return false
	})
	if st, err := proc.Default.Status(there); err != nil || st.TracerPID == 0 {
		t.Errorf("the sleeper's status: %+v, %v", st, err)
	}
	text, err := os.ReadFile(traceOf(m, comes).File.Path)
	if err != nil || !strings.Contains(string(text), "--- SIGTERM {") || !strings.HasSuffix(string(text), "# exit status: 143\n") {
		t.Errorf("trace (%v):\n%s", err, text)
	}
}

func traceOf(m *memory, pid int) event.Trace {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tr := range m.traces {
		if tr.Process.PID == pid {
			return tr
		}
	}
	return event.Trace{}
}

// Without a proc connector new processes are found by polling.
func TestPollingFindsNewProcesses(t *testing.T) {
	const uid = 64302
	k, m := control(t, "capture: {gate: off}", func(k *Controller, _ *memory) { k.finder.Poll() })
	k.Hit(hitOf(t, "64302", 0))
	m.eventually(t, "the capture starts", func() bool { return len(m.captures) == 1 })
	comes := sleeper(t, uid, "exec sleep 60")
	m.eventually(t, "the new process is found by polling", func() bool {
		for _, tr := range m.traces {
			if tr.Process.PID == comes {
				return tr.Culprit.FoundBy == event.FoundPoll
			}
		}
		return false
	})
	syscall.Kill(comes, syscall.SIGKILL)
	m.eventually(t, "its end is found by polling", func() bool {
		return slices.ContainsFunc(m.programs, func(p event.Program) bool { return p.Process.PID == comes && p.Event.End != nil })
	})
}

// Process scope traces the tree of the hit's process and nobody else.
func TestProcessScope(t *testing.T) {
	const uid = 64303
	k, m := control(t, "capture: {scope: process}", nil)
	other := sleeper(t, uid, "exec sleep 60")
	tree := sleeper(t, uid, "sleep 61 & sleep 62 & wait")
	m.eventually(t, "the tree has grown", func() bool { return len(children(t, tree)) == 2 })

	k.Hit(hitOf(t, "64303", 0))
	m.eventually(t, "a hit without a process is no capture", func() bool {
		return len(m.hits) == 1 && strings.Contains(words.NoCapture(m.hits[0].Culprit.NoCapture), "not known")
	})
	k.Hit(hitOf(t, "64303", tree))
	m.eventually(t, "the tree is traced", func() bool { return m.only().Culprit.Traces == 3 })
	if st, err := proc.Default.Status(other); err != nil || st.TracerPID != 0 {
		t.Errorf("a process outside the tree: %+v, %v", st, err)
	}
}

func children(t *testing.T, pid int) (pids []int) {
	all, err := proc.Default.PIDs()
	if err != nil {
		t.Error(err)
	}
	for _, p := range all {
		if st, err := proc.Default.Stat(p); err == nil && st.PPID == pid {
			pids = append(pids, p)
		}
	}
	return pids
}

// What is not traced is recorded with the reason, and is no error.
func TestNotTraced(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		reason     event.UntracedCode
		uid        uint32
		change     func(*Controller, *memory)
	}{
		{"an excluded program", "guard: {never_executables: [/usr/bin/sle*]}", event.UntracedNeverExecutables, 64304, nil},
		{"no file", "", event.UntracedNoFile, 64305, func(_ *Controller, m *memory) { m.noFiles = true }},
		{"no strace", "", event.UntracedNotStarted, 64306, func(k *Controller, _ *memory) { k.strace.Path = "/nonexistent" }},
		{"another strace", "", event.UntracedOther, 64307, func(k *Controller, _ *memory) { k.strace.Path = "/bin/false" }},
		{"the bound of straces", "capture: {concurrent: 1}", event.UntracedConcurrent, 64308, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, m := control(t, tt.yaml, tt.change)
			sleeper(t, tt.uid, "exec sleep 60")
			sleeper(t, tt.uid, "exec sleep 60")
			waitForSleep(t, m, tt.uid)
			k.Hit(hitOf(t, strconv.Itoa(int(tt.uid)), 0))
			m.eventually(t, "the reason is recorded", func() bool {
				missed := m.only().Culprit.Missed
				return missed[tt.reason]+missed[event.UntracedSilent] >= 1
			})
		})
	}
}

// By hand: so many processes, until they have ended.
func TestTraceByHand(t *testing.T) {
	const uid = 64309
	k, m := control(t, "", nil)
	if err := k.Trace(Owner{Container: finder.Anywhere}, event.Place{}, 1, time.Second, 32); err == nil {
		t.Error("all of root can be traced")
	}
	if err := k.Trace(Owner{UID: uid, Container: finder.Anywhere}, event.Place{}, 2, time.Minute, 32); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		sleeper(t, uid, `exec /usr/bin/python3 -c "import time; time.sleep(0.5); exit(7)"`)
	}
	m.eventually(t, "the capture ends when two have ended", func() bool { return m.only().Culprit.State == event.StateEnded })
	if len(m.traces) != 2 || words.CaptureEnded(m.only().Culprit.EndedBecause) != "its limit of 2 processes was reached" {
		t.Errorf("capture %+v with %d traces", m.only().Culprit, len(m.traces))
	}
	for _, tr := range m.traces {
		if tr.Process.ExitCode == nil || *tr.Process.ExitCode != 7 || tr.Culprit.Hit != nil {
			t.Errorf("trace %+v", tr)
		}
	}
}

// A traced process that prints without end is cut, and lives on untraced.
func TestTraceBytes(t *testing.T) {
	const uid = 64310
	k, m := control(t, "capture: {trace_bytes: 64KiB}", nil)
	loud := sleeper(t, uid, "while :; do echo; done > /dev/null")
	k.Hit(hitOf(t, "64310", 0))
	m.eventually(t, "the trace is cut", func() bool {
		for _, tr := range m.traces {
			if tr.Process.PID == loud && tr.Culprit.State == event.StateEnded {
				return tr.Culprit.Truncated && tr.Culprit.Lost > 0 && tr.File.Size < 80<<10
			}
		}
		return false
	})
	m.eventually(t, "the process is let go", func() bool {
		st, err := proc.Default.Status(loud)
		return err == nil && st.TracerPID == 0
	})
}
