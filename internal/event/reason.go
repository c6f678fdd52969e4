package event

// A Reason says why something is as it is: a code, which programs, filters and metrics go
// by, and what only this case has. Package words says it in English.
type Reason[C ~string] struct {
	Code   C      `json:"code"`
	Detail string `json:"detail,omitempty"` // such as a path, a number, an error
}

// The kinds of reasons, each with codes of its own, so that none is taken for another.
type (
	// Untraced says why a process that was found has no trace.
	Untraced = Reason[UntracedCode]
	// Ended says why a capture took no more, or why a trace ended.
	Ended = Reason[EndedCode]
	// NoCapture says why a hit neither started nor joined a capture.
	NoCapture = Reason[NoCaptureCode]
	// Unattributed says why the sender of a packet is not known for sure.
	Unattributed = Reason[UnattributedCode]
	// Removed says why a file of the evidence was removed.
	Removed = Reason[RemovedCode]
)

// An UntracedCode is why a process has no trace; a label of two metrics, too.
type UntracedCode string

// Why no strace was started for a process, and why one did not get onto it.
const (
	UntracedLevel            UntracedCode = "level"             // the processes of its level were used up
	UntracedConcurrent       UntracedCode = "concurrent"        // capture.concurrent straces ran
	UntracedEnded            UntracedCode = "ended"             // the capture took no more; detail: an EndedCode
	UntracedGone             UntracedCode = "gone"              // it had ended, or become another process
	UntracedInit             UntracedCode = "pid_1"             // the service manager of the machine
	UntracedKernelThread     UntracedCode = "kernel_thread"     // ptrace cannot reach one
	UntracedOurs             UntracedCode = "ours"              // culprit, or a child of it
	UntracedNeverUsers       UntracedCode = "never_users"       // guard.never_users names its user
	UntracedNeverExecutables UntracedCode = "never_executables" // detail: the pattern of guard.never_executables
	UntracedForeign          UntracedCode = "foreign"           // somebody else traces it; detail: who

	UntracedRefused    UntracedCode = "refused"     // the kernel did not allow it
	UntracedNoFile     UntracedCode = "no_file"     // its file could not be made, or the disk has no room
	UntracedNotStarted UntracedCode = "not_started" // strace could not be started
	UntracedStopped    UntracedCode = "stopped"     // strace was told to end before; detail: an EndedCode
	UntracedSilent     UntracedCode = "silent"      // strace ended without a word
	UntracedOther      UntracedCode = "other"       // strace could not attach; detail: what it said
)

// NotTriedCodes are the codes of processes that no strace was started for.
func NotTriedCodes() []UntracedCode {
	return []UntracedCode{
		UntracedLevel, UntracedConcurrent, UntracedEnded, UntracedGone, UntracedInit, UntracedKernelThread,
		UntracedOurs, UntracedNeverUsers, UntracedNeverExecutables, UntracedForeign,
	}
}

// NotAttachedCodes are the codes of processes that a strace was started for and did not
// get onto.
func NotAttachedCodes() []UntracedCode {
	return []UntracedCode{
		UntracedGone, UntracedRefused, UntracedForeign, UntracedNoFile, UntracedNotStarted, UntracedStopped, UntracedSilent, UntracedOther,
	}
}

// An EndedCode is why a capture or a trace ended.
type EndedCode string

// Why a capture ended; its straces then let go with the same reason.
const (
	EndedTime      EndedCode = "time"      // the window of its level, counted from the last hit
	EndedProcesses EndedCode = "processes" // those of its highest level were used up; detail: how many
	EndedStopped   EndedCode = "stopped"   // culprit was stopped
	EndedKilled    EndedCode = "killed"    // culprit was killed
)

// Why else a trace ended.
const (
	EndedExited           EndedCode = "exited"            // the process; detail: its exit status
	EndedTraceBytes       EndedCode = "trace_bytes"       // the trace reached capture.trace_bytes
	EndedNeverUsers       EndedCode = "never_users"       // it became a user of guard.never_users
	EndedNeverExecutables EndedCode = "never_executables" // it became a program of guard.never_executables; detail: the pattern
	EndedOtherGuard       EndedCode = "guard"             // it became what else is never traced; detail: an UntracedCode
	EndedNewProcess       EndedCode = "new_process"       // its PID was another process's before strace was on it
	EndedNotWritten       EndedCode = "not_written"       // its file could not be made or written; detail: the error
	EndedStraceStopped    EndedCode = "strace_stopped"    // somebody stopped strace by a signal, and we killed it
	EndedStraceKilled     EndedCode = "strace_killed"     // detail: the signal
	EndedStrace           EndedCode = "strace_ended"      // strace ended by itself
	EndedDamaged          EndedCode = "damaged"           // its catalogue was damaged: how it ended is not known
)

// A NoCaptureCode is why a hit has no capture.
type NoCaptureCode string

// Why a hit has no capture.
const (
	NoCaptureStopping   NoCaptureCode = "stopping"    // culprit is stopping
	NoCaptureNoUID      NoCaptureCode = "no_uid"      // the kernel gave none
	NoCaptureNeverUsers NoCaptureCode = "never_users" // guard.never_users names the user
	NoCaptureTooMany    NoCaptureCode = "too_many"    // as many captures ran as there can be; detail: how many
	NoCaptureNoProcess  NoCaptureCode = "no_process"  // in process scope, and the process is not known or not to be traced
	NoCaptureForwarded  NoCaptureCode = "forwarded"   // a local resolver sent it for the program of another hit; detail: the resolver
	NoCaptureResolver   NoCaptureCode = "resolver"    // a local resolver sent it, for whom is not known; detail: the resolver
)

// An UnattributedCode is why the sender of a packet is not known for sure.
type UnattributedCode string

// Why the sender of a packet is not known for sure.
const (
	UnattributedFlood    UnattributedCode = "flood"    // too many packets waited: nothing was searched for
	UnattributedProtocol UnattributedCode = "protocol" // neither UDP nor TCP
	UnattributedFragment UnattributedCode = "fragment" // a fragment without ports
	UnattributedClosed   UnattributedCode = "closed"   // the socket was closed already
	UnattributedNobody   UnattributedCode = "nobody"   // nobody holds the socket any more; detail: its inode
	UnattributedFailed   UnattributedCode = "failed"   // the kernel could not be asked; detail: the error
	UnattributedHolder   UnattributedCode = "holder"   // proven, but another process held the socket; detail: its PID
)

// A RemovedCode is the bound of the evidence that a file was removed for; a label, too.
type RemovedCode string

// The bounds of the evidence, by their keys in the section evidence of the configuration.
const (
	RemovedKeep     RemovedCode = "keep"
	RemovedMaxBytes RemovedCode = "max_bytes"
	RemovedMinFree  RemovedCode = "min_free"
)

// RemovedCodes are all of them.
func RemovedCodes() []RemovedCode {
	return []RemovedCode{RemovedKeep, RemovedMaxBytes, RemovedMinFree}
}
