package words

import (
	"strings"
	"testing"

	"culprit/internal/event"
)

// Every code has words of its own, and anything that is not a code is printed as it is.
func TestReasons(t *testing.T) {
	t.Parallel()
	for _, code := range append(event.NotTriedCodes(), event.NotAttachedCodes()...) {
		plain, detailed := Untraced(event.Untraced{Code: code}), Untraced(event.Untraced{Code: code, Detail: "X"})
		if plain == "" || strings.HasSuffix(plain, ":") || plain == string(code) || !strings.Contains(detailed, "X") {
			t.Errorf("%s: %q, %q", code, plain, detailed)
		}
	}
	for _, code := range event.RemovedCodes() {
		if Removed(event.Removed{Code: code}) == string(code) {
			t.Errorf("no words for %s", code)
		}
	}
	for got, want := range map[string]string{
		Untraced(event.Untraced{Code: event.UntracedLevel, Detail: "1 allows 5"}):        "level 1 allows 5 processes",
		Untraced(event.Untraced{Code: event.UntracedLevel, Detail: "1 allows 1"}):        "level 1 allows 1 process",
		Untraced(event.Untraced{Code: event.UntracedConcurrent, Detail: "1"}):            "capture.concurrent allows 1 strace at once",
		Untraced(event.Untraced{Code: event.UntracedForeign, Detail: "process 7 (gdb)"}): "already traced by process 7 (gdb)",
		Untraced(event.Untraced{Code: event.UntracedEnded, Detail: "time"}):              "the capture took no more processes: its time was up",
		Untraced(event.Untraced{Code: event.Unknown, Detail: "of an old culprit"}):       "of an old culprit",
		Untraced(event.Untraced{Code: "from_the_future", Detail: "x"}):                   "from_the_future: x",
		CaptureEnded(nil): "",
		CaptureEnded(&event.Ended{Code: event.EndedProcesses, Detail: "1"}):        "its limit of 1 process was reached",
		TraceEnded(&event.Ended{Code: event.EndedProcesses, Detail: "5"}):          "detached: its limit of 5 processes was reached",
		TraceEnded(&event.Ended{Code: event.EndedExited, Detail: "3"}):             "the process ended with status 3",
		TraceEnded(&event.Ended{Code: event.EndedOtherGuard, Detail: "pid_1"}):     "detached: PID 1 is never traced",
		TraceEnded(&event.Ended{Code: event.EndedKilled}):                          "culprit was killed",
		TraceEnded(&event.Ended{Code: event.EndedNotWritten, Detail: "disk full"}): "the trace file could not be written: disk full",
		NoCapture(nil): "",
		NoCapture(&event.NoCapture{Code: event.NoCaptureForwarded, Detail: "unbound"}):                        "sent on by unbound for the program of another hit",
		Loss(event.LossDetail{Code: event.LossOldRows, Detail: "hits"}):                                       "hits removed from the catalogue: older than evidence.keep",
		Loss(event.LossDetail{Code: event.LossTraceFiles, Detail: "keep"}):                                    "trace files removed: it was older than evidence.keep",
		Unattributed(&event.Origin{Reason: &event.Unattributed{Code: "nobody", Detail: "9"}, Unlisted: true}): "nobody holds the socket any more (inode 9); the user's other processes were listed for another packet just before",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The reason of a group has a detail only if all its processes have the same.
func TestMissed(t *testing.T) {
	t.Parallel()
	d := &event.CaptureDetail{Examples: []event.Missed{
		{Reason: event.Untraced{Code: event.UntracedConcurrent, Detail: "2"}},
		{Reason: event.Untraced{Code: event.UntracedForeign, Detail: "process 7 (gdb)"}},
		{Reason: event.Untraced{Code: event.UntracedConcurrent, Detail: "2"}},
		{Reason: event.Untraced{Code: event.UntracedForeign, Detail: "process 8 (gdb)"}},
	}}
	for code, want := range map[event.UntracedCode]string{
		event.UntracedConcurrent: "capture.concurrent allows 2 straces at once", event.UntracedForeign: "already traced by another process", event.UntracedGone: "it ended before strace attached",
	} {
		if got := Missed(d, code); got != want {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
}

// One thing is not said in the plural, and what happened is not counted as a thing.
func TestLost(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]event.LossDetail{
		"2 packets dropped: nflog.queue was full":                                                                      {Code: event.LossQueue, Count: 2},
		"1 packet dropped: nflog.queue was full":                                                                       {Code: event.LossQueue, Count: 1},
		"1 hit removed from the catalogue: older than evidence.keep":                                                   {Code: event.LossOldRows, Detail: "hits", Count: 1},
		"1 trace file removed: it was older than evidence.keep":                                                        {Code: event.LossTraceFiles, Detail: "keep", Count: 1},
		"the catalogue was damaged: its hits and captures are in X":                                                    {Code: event.LossDamaged, Detail: "X", Count: 1},
		"packets missed for up to 12ms without our firewall rules: others changed the firewall":                        {Code: event.LossFirewall, Detail: "12ms", Count: 1},
		"2 times: packets missed for up to 12ms without our firewall rules: others changed the firewall":               {Code: event.LossFirewall, Detail: "12ms", Count: 2},
		"1 hit, proof, program or snapshot not recorded: the catalogue could not be written, or not fast enough":       {Code: event.LossUnrecorded, Count: 1},
		"12 hits, proofs, programs and snapshots not recorded: the catalogue could not be written, or not fast enough": {Code: event.LossUnrecorded, Count: 12},
		"1 hit or system call not compared: too long, or too many at once; culprit prove can compare them":             {Code: event.LossUncompared, Count: 1},
	} {
		if got := Lost(d); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
