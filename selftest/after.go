package selftest

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// peak returns the most memory that a process has used, in bytes, or 0 if that is unknown. See
// VmHWM in proc(5).
func peak(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// alive returns the PIDs of the traces' straces that are still running.
func alive(traces []event.Trace) (pids []int) {
	for _, t := range traces {
		st, err := proc.Default.Stat(t.Culprit.Strace)
		if err == nil && st.Comm == "strace" && !st.Dead() {
			pids = append(pids, t.Culprit.Strace)
		}
	}
	return pids
}

// wrongWith says what is wrong with a process that should live on untraced, or "".
func wrongWith(pid int) string {
	st, err := proc.Default.Stat(pid)
	if err != nil || st.Dead() {
		return "a traced process died of it"
	}
	status, err := proc.Default.Status(pid)
	switch {
	case err != nil:
		return "cannot look at a traced process: " + err.Error()
	case status.TracerPID != 0:
		return fmt.Sprintf("a process is still traced by process %d", status.TracerPID)
	case st.State == 'T' || st.State == 't':
		return "a traced process was left stopped"
	}
	return ""
}
