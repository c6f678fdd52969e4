package event

// A Reason says why something is so: a code, which programs, filters and metrics use, and a
// detail of this case. Package words puts it into English.
type Reason[C ~string] struct {
	Code   C      `json:"code"`
	Detail string `json:"detail,omitempty"` // such as a path, a number, an error
}

// The kinds of reasons. Each has its own type of codes, so that none can be taken for another.
type (
	// Untraced says why a process that was found has no trace.
	Untraced = Reason[UntracedCode]
	// Ended says why a capture traced nothing more, or why a trace ended.
	Ended = Reason[EndedCode]
	// NoCapture says why a hit neither started nor joined a capture.
	NoCapture = Reason[NoCaptureCode]
	// Unattributed says why the sender of a packet is not certain.
	Unattributed = Reason[UnattributedCode]
	// Removed says why a file of the evidence was removed.
	Removed = Reason[RemovedCode]
	// Replaceable says why an executable may be gone or another one tomorrow.
	Replaceable = Reason[ReplaceableCode]
)

// An UntracedCode says why a process has no trace. It is also a label of two metrics.
type UntracedCode string

// Why no strace was started for a process, or why strace could not attach.
const (
	UntracedLevel            UntracedCode = "level"             // its level's number of processes was used up
	UntracedConcurrent       UntracedCode = "concurrent"        // capture.concurrent straces ran
	UntracedEnded            UntracedCode = "ended"             // the capture traces nothing more; detail: an EndedCode
	UntracedGone             UntracedCode = "gone"              // it had ended, or its PID was another process's
	UntracedInit             UntracedCode = "pid_1"             // the machine's service manager
	UntracedKernelThread     UntracedCode = "kernel_thread"     // ptrace cannot attach to one
	UntracedOurs             UntracedCode = "ours"              // culprit, or a child of it
	UntracedNeverUsers       UntracedCode = "never_users"       // guard.never_users names its user
	UntracedNeverExecutables UntracedCode = "never_executables" // detail: the pattern of guard.never_executables
	UntracedForeign          UntracedCode = "foreign"           // another tracer is attached; detail: which

	UntracedRefused    UntracedCode = "refused"     // the kernel did not allow it
	UntracedNoFile     UntracedCode = "no_file"     // its file could not be created, or the disk is full
	UntracedNotStarted UntracedCode = "not_started" // strace could not be started
	UntracedStopped    UntracedCode = "stopped"     // strace was told to end before it attached; detail: an EndedCode
	UntracedSilent     UntracedCode = "silent"      // strace ended without a message
	UntracedOther      UntracedCode = "other"       // strace could not attach; detail: its message
)

// NotTriedCodes returns the codes of processes for which no strace was started.
func NotTriedCodes() []UntracedCode {
	return []UntracedCode{
		UntracedLevel, UntracedConcurrent, UntracedEnded, UntracedGone, UntracedInit, UntracedKernelThread,
		UntracedOurs, UntracedNeverUsers, UntracedNeverExecutables, UntracedForeign,
	}
}

// NotAttachedCodes returns the codes of processes to which a started strace could not attach.
func NotAttachedCodes() []UntracedCode {
	return []UntracedCode{
		UntracedGone, UntracedRefused, UntracedForeign, UntracedNoFile, UntracedNotStarted, UntracedStopped, UntracedSilent, UntracedOther,
	}
}

// An EndedCode says why a capture or a trace ended.
type EndedCode string

// Why a capture ended. Its straces then detach for the same reason.
const (
	EndedTime      EndedCode = "time"      // the window of its level, counted from the last hit, is over
	EndedProcesses EndedCode = "processes" // the number of its highest level was used up; detail: how many
	EndedStopped   EndedCode = "stopped"   // culprit was stopped
	EndedKilled    EndedCode = "killed"    // culprit was killed
)

// Other reasons why a trace ended.
const (
	EndedExited           EndedCode = "exited"            // the process exited; detail: its exit status
	EndedTraceBytes       EndedCode = "trace_bytes"       // the trace reached capture.trace_bytes
	EndedNeverUsers       EndedCode = "never_users"       // the process became a user of guard.never_users
	EndedNeverExecutables EndedCode = "never_executables" // it executed a program of guard.never_executables; detail: the pattern
	EndedOtherGuard       EndedCode = "guard"             // it became something else that is never traced; detail: an UntracedCode
	EndedNewProcess       EndedCode = "new_process"       // its PID was another process's before strace attached
	EndedLookBack         EndedCode = "look_back"         // it has what was kept in memory, and a second after the packet
	EndedLookBackFull     EndedCode = "look_back_full"    // the same, and the memory forgot calls of that second
	EndedNotWritten       EndedCode = "not_written"       // its file could not be created or written; detail: the error
	EndedStraceStopped    EndedCode = "strace_stopped"    // somebody stopped strace by a signal, and we killed it
	EndedStraceKilled     EndedCode = "strace_killed"     // detail: the signal
	EndedStrace           EndedCode = "strace_ended"      // strace ended by itself
	EndedDamaged          EndedCode = "damaged"           // its catalogue was damaged, so how it ended is unknown
)

// A NoCaptureCode says why a hit has no capture.
type NoCaptureCode string

// Why a hit has no capture.
const (
	NoCaptureStopping   NoCaptureCode = "stopping"            // culprit is stopping
	NoCaptureNoUID      NoCaptureCode = "no_uid"              // the kernel gave no UID
	NoCaptureNeverUsers NoCaptureCode = "never_users"         // guard.never_users names the user
	NoCaptureTooMany    NoCaptureCode = "too_many"            // as many captures as possible were running; detail: how many
	NoCaptureContainers NoCaptureCode = "too_many_containers" // captures in containers had used up their share; detail: how many that is
	NoCaptureNoProcess  NoCaptureCode = "no_process"          // in process scope, and the process is unknown or must not be traced
	NoCaptureForwarded  NoCaptureCode = "forwarded"           // a local resolver sent it for the program of another hit; detail: the resolver
	NoCaptureResolver   NoCaptureCode = "resolver"            // a local resolver sent it, for an unknown program; detail: the resolver
)

// An UnattributedCode says why the sender of a packet is not certain.
type UnattributedCode string

// Why the sender of a packet is not certain.
const (
	UnattributedFlood    UnattributedCode = "flood"    // too many packets waited, so nobody searched
	UnattributedProtocol UnattributedCode = "protocol" // neither UDP nor TCP
	UnattributedFragment UnattributedCode = "fragment" // a fragment without ports
	UnattributedClosed   UnattributedCode = "closed"   // the socket was closed already
	UnattributedShared   UnattributedCode = "shared"   // more than one socket could have sent it
	UnattributedNobody   UnattributedCode = "nobody"   // no process holds the socket any more; detail: its inode
	UnattributedFailed   UnattributedCode = "failed"   // the kernel could not be asked; detail: the error
	UnattributedContext  UnattributedCode = "context"  // of another network namespace, and whoever ran when it left had perhaps not sent it
	UnattributedHolder   UnattributedCode = "holder"   // a trace proves one process, but another held the socket; detail: its PID
)

// A RemovedCode is the bound of the evidence for which a file was removed. It is also a label.
type RemovedCode string

// The bounds of the evidence, by their keys in the section evidence of the configuration.
const (
	RemovedKeep     RemovedCode = "keep"
	RemovedMaxBytes RemovedCode = "max_bytes"
	RemovedMinFree  RemovedCode = "min_free"
)

// RemovedCodes returns all of them.
func RemovedCodes() []RemovedCode {
	return []RemovedCode{RemovedKeep, RemovedMaxBytes, RemovedMinFree}
}

// An IncompleteCode says why a part of a snapshot is missing or not whole.
type IncompleteCode string

// Why a part of a snapshot is missing or not whole.
const (
	IncompleteTime         IncompleteCode = "time"          // it could not be read in time
	IncompleteGone         IncompleteCode = "gone"          // the process had ended
	IncompleteFailed       IncompleteCode = "failed"        // detail: the error
	IncompleteBusy         IncompleteCode = "busy"          // too many were being read
	IncompleteTooLarge     IncompleteCode = "too_large"     // larger than what is read or kept; detail: the size
	IncompleteNotInstalled IncompleteCode = "not_installed" // there is no eu-stack
	IncompletePartly       IncompleteCode = "partly"        // eu-stack shows some frames; detail: what it says
	IncompleteStuck        IncompleteCode = "stuck"         // eu-stack was killed, and has not ended
	IncompleteFileSystem   IncompleteCode = "file_system"   // a file of the process is where reading may never end; detail: the type
	IncompleteOff          IncompleteCode = "off"           // evidence.keep_executables is 0B
	IncompleteNoRoom       IncompleteCode = "no_room"       // the disk is full; detail: the error
	IncompleteStopped      IncompleteCode = "stopped"       // culprit was stopped before it was read
	IncompleteUnfinished   IncompleteCode = "unfinished"    // it is being read, or culprit was killed before it was
)

// A ReplaceableCode says why an executable may be gone or another one tomorrow.
type ReplaceableCode string

// Why an executable may be gone or another one tomorrow.
const (
	ReplaceableDeleted    ReplaceableCode = "deleted"     // its file has no name any more
	ReplaceableMemory     ReplaceableCode = "memory"      // it never had one (memfd_create)
	ReplaceableWritable   ReplaceableCode = "writable"    // a user may write to it or to a directory above; detail: which
	ReplaceableFileSystem ReplaceableCode = "file_system" // a user or another machine has its file system; detail: the type
	ReplaceableUnknown    ReplaceableCode = "unknown"     // its place could not be looked at; detail: the error
)
