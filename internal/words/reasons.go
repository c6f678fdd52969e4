// Package words says in English what package event records as codes. The caller escapes it
// before printing, as details come from others.
package words

import (
	"slices"
	"strconv"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
)

// withDetail appends a detail to the words it belongs to.
func withDetail(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

// say returns the words of a code with its detail.
func say[C ~string](words map[C]string, r event.Reason[C]) string {
	what, known := words[r.Code]
	switch {
	case r.Code == event.Unknown: // already a sentence, of an older culprit
		return r.Detail
	case !known: // a code of a newer one
		what = string(r.Code)
	}
	return withDetail(what, r.Detail)
}

// count says how many things there are. The number is a detail; one that cannot be parsed is
// printed as it is.
func count(number, thing string) string {
	n, err := strconv.Atoi(number)
	if err != nil {
		return thing + " " + number
	}
	return text.Plural(n, thing)
}

// Untraced says why a process was not traced.
func Untraced(r event.Untraced) string {
	if r.Detail == "" {
		return say(untraced, r)
	}
	switch r.Code {
	case event.UntracedLevel:
		if level, number, found := strings.Cut(r.Detail, " allows "); found {
			return "level " + level + " allows " + count(number, "process")
		}
	case event.UntracedConcurrent:
		return "capture.concurrent allows " + count(r.Detail, "strace") + " at once"
	case event.UntracedNeverExecutables:
		return "guard.never_executables names " + r.Detail
	case event.UntracedForeign:
		return "already traced by " + r.Detail
	case event.UntracedEnded, event.UntracedStopped:
		r.Detail = CaptureEnded(&event.Ended{Code: event.EndedCode(r.Detail)})
	}
	return say(untraced, r)
}

var untraced = map[event.UntracedCode]string{
	event.UntracedLevel:            "the level allows no more processes",
	event.UntracedConcurrent:       "no strace was free: capture.concurrent was reached",
	event.UntracedEnded:            "the capture took no more processes",
	event.UntracedGone:             "it ended before strace attached",
	event.UntracedInit:             "PID 1 is never traced",
	event.UntracedKernelThread:     "a kernel thread",
	event.UntracedOurs:             "culprit itself, or one of its children",
	event.UntracedNeverUsers:       "guard.never_users names the user",
	event.UntracedNeverExecutables: "guard.never_executables names the program",
	event.UntracedForeign:          "already traced by another process",
	event.UntracedRefused:          "refused by the kernel: the process was ending, has another tracer, or a security module forbids it",
	event.UntracedNoFile:           "no trace file could be created",
	event.UntracedNotStarted:       "strace could not be started",
	event.UntracedStopped:          "strace was stopped before it attached",
	event.UntracedSilent:           "strace ended without a message",
	event.UntracedOther:            "strace could not attach",
}

// CaptureEnded says why a capture ended, or "" while it runs.
func CaptureEnded(r *event.Ended) string {
	switch {
	case r == nil:
		return ""
	case r.Code == event.EndedProcesses && r.Detail != "":
		return "its limit of " + count(r.Detail, "process") + " was reached"
	}
	return say(ended, *r)
}

// TraceEnded says why a trace ended, or "" while it runs.
func TraceEnded(r *event.Ended) string {
	switch {
	case r == nil:
		return ""
	case r.Code == event.EndedExited:
		return "the process ended with status " + r.Detail
	case r.Code == event.EndedStraceKilled:
		return "strace was killed (" + r.Detail + ")"
	case r.Code == event.EndedOtherGuard:
		return "detached: " + Untraced(event.Untraced{Code: event.UntracedCode(r.Detail)})
	case r.Code == event.EndedNeverExecutables:
		return "detached: " + Untraced(event.Untraced{Code: event.UntracedNeverExecutables, Detail: r.Detail})
	case detached[r.Code]:
		return "detached: " + CaptureEnded(r)
	}
	return CaptureEnded(r)
}

// detached are the codes of traces whose process goes on.
var detached = map[event.EndedCode]bool{
	event.EndedTime: true, event.EndedProcesses: true, event.EndedStopped: true, event.EndedTraceBytes: true,
	event.EndedNeverUsers: true, event.EndedNewProcess: true, event.EndedStraceStopped: true,
}

var ended = map[event.EndedCode]string{
	event.EndedTime:          "its time was up",
	event.EndedProcesses:     "its process limit was reached",
	event.EndedStopped:       "culprit was stopped",
	event.EndedKilled:        "culprit was killed",
	event.EndedTraceBytes:    "capture.trace_bytes was reached",
	event.EndedNeverUsers:    untraced[event.UntracedNeverUsers],
	event.EndedNewProcess:    "another process has its PID now",
	event.EndedLookBack:      "it has what was kept in memory, and a second after the packet",
	event.EndedLookBackFull:  "it has what was kept in memory, which was full within the second after the packet: calls of that second may be missing",
	event.EndedNotWritten:    "the trace file could not be written",
	event.EndedStraceStopped: "a signal stopped strace; culprit killed it so that the process goes on",
	event.EndedStrace:        "strace ended",
	event.EndedDamaged:       "its catalogue was damaged",
}

// NoCapture says why a hit has no capture.
func NoCapture(r *event.NoCapture) string {
	if r == nil {
		return ""
	}
	switch r.Code {
	case event.NoCaptureTooMany:
		return r.Detail + " captures were running, the most there can be"
	case event.NoCaptureContainers:
		return r.Detail + " captures in containers were running, the share of one container, of one user in all, or of all"
	case event.NoCaptureForwarded:
		return "sent on by " + r.Detail + " for the program of another hit"
	case event.NoCaptureResolver:
		return "sent by the local resolver " + r.Detail + "; no packet of the program that asked it was seen: it may ask through a UNIX socket (nss-resolve, nscd), or be in a container (namespaces: all)"
	}
	return say(noCapture, *r)
}

var noCapture = map[event.NoCaptureCode]string{
	event.NoCaptureStopping:   "culprit is stopping",
	event.NoCaptureNoUID:      "the kernel gave no UID",
	event.NoCaptureNeverUsers: untraced[event.UntracedNeverUsers],
	event.NoCaptureNoProcess:  "only the sending process would be captured, but it is not known or must not be traced",
}

// Unattributed says why the sender of a packet is not certain.
func Unattributed(o *event.Origin) string {
	r := o.Reason
	if r == nil {
		return ""
	}
	what := ""
	switch r.Code {
	case event.UnattributedNobody:
		what = "nobody holds the socket any more (inode " + r.Detail + ")"
	case event.UnattributedHolder:
		what = "the packet's socket was held by process " + r.Detail
	default:
		what = say(unattributed, *r)
	}
	if o.Unlisted {
		what += "; the user's other processes were listed for another packet just before"
	}
	return what
}

var unattributed = map[event.UnattributedCode]string{
	event.UnattributedFlood:    "not searched for: too many packets at once",
	event.UnattributedProtocol: "not UDP or TCP",
	event.UnattributedShared:   "more than one socket could have sent it",
	event.UnattributedFragment: "a fragment without ports",
	event.UnattributedClosed:   "the socket was closed already",
	event.UnattributedContext:  "it left its network namespace later than it was sent, in nobody's name",
	event.UnattributedFailed:   "asking the kernel for the socket failed",
}

// Removed says why a file of the evidence was removed.
func Removed(r event.Removed) string { return say(removed, r) }

var removed = map[event.RemovedCode]string{
	event.RemovedKeep:     "it was older than evidence.keep",
	event.RemovedMaxBytes: "the evidence was larger than evidence.max_bytes",
	event.RemovedMinFree:  "less than evidence.min_free was free on the disk",
}

// Missed says why processes of a capture were not traced, for one code: with a detail if all
// described processes have the same.
func Missed(d *event.CaptureDetail, code event.UntracedCode) string {
	why := event.Untraced{Code: code}
	for i, m := range slices.DeleteFunc(slices.Clone(d.Examples), func(m event.Missed) bool { return m.Reason.Code != code }) {
		if i > 0 && m.Reason != why {
			return Untraced(event.Untraced{Code: code})
		}
		why = m.Reason
	}
	return Untraced(why)
}
