package capture

import (
	"time"

	"culprit/internal/event"
)

// A Meter is told of what is measured and not recorded. Its methods may be called
// from several goroutines and must not wait for anything.
type Meter interface {
	// Started is told of each capture that a hit starts, and Running how many captures
	// and straces there are.
	Started()
	Running(captures, straces int)
	// Attached is told of each strace that got onto its process: how that was found,
	// and how long it took from then.
	Attached(foundBy string, took time.Duration)
	// AttachedAfter is told how long it took from the packet of its hit, of those that
	// got onto a process that was there when it was sent.
	AttachedAfter(hit time.Duration)
	// AttachFailed is told of each strace that did not, and Untraced of each process
	// that was found and not tried.
	AttachFailed(Failure)
	Untraced(Untraced)
	// Overrun is told when process events were lost.
	Overrun()
	// Held is told of each end of a hold of the gate, and how long it took.
	Held(time.Duration)
	// GateExpired counts the holds that reached their deadline, GateUnheld programs that
	// the gate let go because we did not listen, GateFailed the gates that failed.
	GateExpired(n uint64)
	GateUnheld(n uint64)
	GateFailed()
}

// A Failure is why a strace did not get onto its process, in one word.
type Failure = string

// All failures.
const (
	FailureGone       Failure = "gone"        // the process had ended
	FailureRefused    Failure = "refused"     // the kernel did not allow it
	FailureNoFile     Failure = "no_file"     // the trace file could not be made, or the disk has no room
	FailureNotStarted Failure = "not_started" // strace could not be started
	FailureStopped    Failure = "stopped"     // strace was told to end before
	FailureSilent     Failure = "silent"      // strace ended without a word
	FailureOther      Failure = "other"       // strace said something else
)

// Failures are all of them.
func Failures() []Failure {
	return []Failure{FailureGone, FailureRefused, FailureNoFile, FailureNotStarted, FailureStopped, FailureSilent, FailureOther}
}

// The reasons of processes that strace did not get onto, as people read them.
const (
	missGone       = "gone before strace was on it"
	missRefused    = "refused: it was just ending, or is traced by somebody else, or a security module forbids it"
	missNoFile     = "no trace file"
	missNotStarted = "strace could not be started"
	missStopped    = "strace was stopped before it was on the process"
	missSilent     = "strace ended without a word"
	missOther      = "strace could not attach"
)

// failure is the word for such a reason.
func failure(reason string) Failure {
	switch reason {
	case missGone:
		return FailureGone
	case missRefused:
		return FailureRefused
	case missNoFile:
		return FailureNoFile
	case missNotStarted:
		return FailureNotStarted
	case missStopped:
		return FailureStopped
	case missSilent:
		return FailureSilent
	}
	return FailureOther
}

// Untraced is why a process that was found was not tried, in one word.
type Untraced = string

// All of them.
const (
	UntracedLevel      Untraced = "level"      // the level's processes were used up
	UntracedConcurrent Untraced = "concurrent" // no strace was free
	UntracedEnded      Untraced = "ended"      // the capture took no more
	UntracedGone       Untraced = "gone"       // it had ended, or its hold was over
	UntracedGuard      Untraced = "guard"      // a guard forbids it
	UntracedForeign    Untraced = "foreign"    // somebody else traces it
)

// UntracedReasons are all of them.
func UntracedReasons() []Untraced {
	return []Untraced{UntracedLevel, UntracedConcurrent, UntracedEnded, UntracedGone, UntracedGuard, UntracedForeign}
}

// measure tells the Meter of a strace that has just attached.
func (k *Controller) measure(tr *tracing, m traceAttached) {
	how := tr.doc.Culprit.FoundBy
	k.meter.Attached(how, m.at.Sub(tr.found))
	// What becomes the user later on may be older than the hit, too: only what a look
	// at all processes has found was there.
	if h := m.t.hit; h != nil && (how == event.FoundScan || how == event.FoundPoll) && tr.doc.Process.Start.Before(h.Timestamp) {
		k.meter.AttachedAfter(m.at.Sub(h.Timestamp))
	}
}

// noMeter measures nothing.
type noMeter struct{}

func (noMeter) Started()                       {}
func (noMeter) Running(int, int)               {}
func (noMeter) Attached(string, time.Duration) {}
func (noMeter) AttachedAfter(time.Duration)    {}
func (noMeter) AttachFailed(Failure)           {}
func (noMeter) Untraced(Untraced)              {}
func (noMeter) Overrun()                       {}
func (noMeter) Held(time.Duration)             {}
func (noMeter) GateExpired(uint64)             {}
func (noMeter) GateUnheld(uint64)              {}
func (noMeter) GateFailed()                    {}
