package tracer

import (
	"errors"
	"os/exec"
	"strconv"
	"syscall"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// outcome is how a strace has ended.
type outcome struct {
	said     string       // the first of its messages
	attached bool         // it said that it was on the process
	told     *event.Ended // why it was told to let go, nil if it ended by itself
	err      error        // of wait(2)
}

// because says why a trace ended whose process ended with that exit code, if it did.
func (o outcome) because(exitCode *int) event.Ended {
	var exit *exec.ExitError
	switch {
	case o.told != nil:
		return *o.told
	case exitCode != nil:
		return event.Ended{Code: event.EndedExited, Detail: strconv.Itoa(*exitCode)}
	case errors.As(o.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return event.Ended{Code: event.EndedStraceKilled, Detail: exit.Sys().(syscall.WaitStatus).Signal().String()}
	}
	return event.Ended{Code: event.EndedStrace}
}

// notAttached says why strace did not get onto the process.
func (t *Tracer) notAttached(o outcome) event.Untraced {
	switch {
	case o.told != nil && o.told.Code == event.EndedNewProcess:
		return event.Untraced{Code: event.UntracedGone}
	case o.told != nil:
		return event.Untraced{Code: event.UntracedStopped, Detail: string(o.told.Code)}
	}
	if status, err := t.tools.FS.Status(t.job.ID.PID); err == nil {
		if who, _ := t.tools.Guard.TracedBy(status); who != nil { // who was quicker
			return *who
		}
	}
	code, said := strace.Refused(o.said)
	if code == event.UntracedGone {
		return event.Untraced{Code: code}
	}
	return event.Untraced{Code: code, Detail: said}
}
