package event

import (
	"fmt"
	"time"
)

// Trace is the strace output of one process and its descendants.
type Trace struct {
	Timestamp time.Time `json:"@timestamp"` // when strace started
	Event     Meta      `json:"event"`
	Rule      *Rule     `json:"rule,omitempty"`
	User      User      `json:"user"`
	Process   Process   `json:"process"`
	Host      *Host     `json:"host,omitempty"` // in a fleet
	Place
	File    File        `json:"file"`
	Culprit TraceDetail `json:"culprit"`
}

// File is a file of the evidence.
type File struct {
	Path string `json:"path"` // absolute
	Size int64  `json:"size"` // bytes
}

// TraceDetail holds the fields of a trace that ECS does not have.
type TraceDetail struct {
	Capture Reference  `json:"capture"`       // of a look-back of a hit without one, the hit
	Hit     *Reference `json:"hit,omitempty"` // the hit that triggered it
	State   string     `json:"state"`
	// FoundBy says how the process was found; see the Found constants.
	FoundBy string   `json:"found_by"`
	Command []string `json:"command"` // strace and its arguments
	Strace  int      `json:"strace"`  // the PID of that strace
	// AgeMS is how old the process was when strace attached, AttachMS how long attaching took
	// from finding the process on. Both in milliseconds.
	AgeMS    float64 `json:"age_ms"`
	AttachMS float64 `json:"attach_ms"`
	// FromStart says that the program was held until strace attached: the trace begins with its
	// first instruction.
	FromStart bool `json:"from_start"`
	// FromPacket says that the process stood still from the packet of the hit on until strace
	// attached: the trace has all that it did after sending it.
	FromPacket   bool   `json:"from_packet,omitempty"`
	EndedBecause *Ended `json:"ended_because,omitempty"`
	Truncated    bool   `json:"truncated,omitempty"` // the trace reached capture.trace_bytes
	Lost         int64  `json:"lost,omitempty"`      // bytes of strace output not kept
	// Removed says why the file is gone, if evidence.keep, max_bytes or min_free required that.
	Removed *Removed `json:"removed,omitempty"`
	// LookBack is set if the trace is not by strace: culprit kept these system calls in memory
	// before the packet.
	LookBack *LookBack `json:"look_back,omitempty"`
	// Snapshot is what the process was before strace attached, if it was frozen then.
	Snapshot *Reference `json:"snapshot,omitempty"`
	// Proofs are the hits whose packets were sent by lines of the trace.
	Proofs []ProofDetail `json:"proofs,omitempty"`
}

// LookBack says how much of what a process did before its packet is in a trace.
type LookBack struct {
	// Since is when the memory begins: what was before is missing. It is when culprit started, or
	// later if TurnedOver says that the memory was full and forgot what was before.
	Since      time.Time `json:"since"`
	TurnedOver bool      `json:"turned_over,omitempty"`
	// Older says that the process started before Since, so that the begin of its life is missing.
	Older bool `json:"older,omitempty"`
	// Calls is how many system calls there are, of the process and of Parents, as far as they are
	// of users who are recorded.
	Calls   int       `json:"calls"`
	Parents []Process `json:"parents,omitempty"`
	// LeftOut counts calls that had no room in the trace, Overwritten pieces of the memory that
	// were overwritten while they were read.
	LeftOut     int `json:"left_out,omitempty"`
	Overwritten int `json:"overwritten,omitempty"`
	// Continues is the look-back of an earlier packet of the process, which has what was before.
	Continues *Reference `json:"continues,omitempty"`
}

// Life says for people which part of the program's life the trace covers.
func (d *TraceDetail) Life() string {
	switch {
	case d.LookBack != nil && d.LookBack.Continues != nil:
		return "after the look-back " + d.LookBack.Continues.ID
	case d.FromStart:
		return "from start"
	}
	if d.FromPacket {
		return fmt.Sprintf("from its packet, %.0f ms after its start", d.AgeMS)
	}
	return fmt.Sprintf("from %.0f ms after its start", d.AgeMS)
}

// Program is a process that ran under the UID of a capture during the capture, traced or not.
type Program struct {
	Timestamp time.Time     `json:"@timestamp"` // when it was first seen
	Event     Meta          `json:"event"`      // with the start, and with the end once there is one
	User      User          `json:"user"`
	Process   Process       `json:"process"`        // as it was last seen
	Host      *Host         `json:"host,omitempty"` // in a fleet
	Culprit   ProgramDetail `json:"culprit"`
}

// ProgramDetail holds the fields of a program that ECS does not have.
type ProgramDetail struct {
	Capture Reference `json:"capture"`
	FoundBy string    `json:"found_by"`
	Traced  bool      `json:"traced"`
	// Trace is the trace of this very process. A traced process without one is in the trace of
	// an ancestor.
	Trace *Reference `json:"trace,omitempty"`
	// Reason says why it was not traced.
	Reason *Untraced `json:"reason,omitempty"`
}

// How a process was found.
const (
	FoundGate = "gate" // the gate held it in its execve until strace attached
	// FoundPacket: the kernel stopped it when it sent a packet, until strace attached.
	FoundPacket = "packet"
	FoundScan   = "scan" // by a scan of /proc, at the start or later
	FoundFork   = "fork" // the kernel held it at its fork, or the proc connector reported that
	FoundExec   = "exec" // … its execve
	FoundUID    = "uid"  // … its change to this UID
	FoundPoll   = "poll" // by polling /proc, if there is no proc connector
	// FoundLookBack: it sent a packet, and what it did before was kept in memory.
	FoundLookBack = "lookback"
	// FoundDescendant: strace followed it from an ancestor.
	FoundDescendant = "descendant"
)

// Proof says which line of a trace sent a hit's packet: its system call carries the bytes of
// the packet.
type Proof struct {
	Timestamp time.Time `json:"@timestamp"` // when the system call began, according to strace
	Event     Meta      `json:"event"`
	Rule      Rule      `json:"rule"` // of the hit
	User      User      `json:"user"`
	// Process is the process of the thread, as it was last seen.
	Process Process     `json:"process"`
	File    File        `json:"file"`           // the trace
	Host    *Host       `json:"host,omitempty"` // in a fleet
	Culprit ProofDetail `json:"culprit"`
}

// ProofDetail holds the fields of a proof that ECS does not have.
type ProofDetail struct {
	Capture Reference `json:"capture"`
	Hit     Reference `json:"hit"`
	Trace   Reference `json:"trace"`
	// Probable says that one side lacks bytes or addresses (strace cut the string short, or the
	// packet was longer than nflog.snaplen). Everything that both sides have agrees, but that
	// is not all.
	Probable bool `json:"probable,omitempty"`
	// Kernel says that the bytes of the packet do not show in the line (sendfile, io_uring, a
	// string cut short), but that it is the system call that the kernel saw the thread make
	// when it sent the packet, see Sent.
	Kernel bool `json:"kernel,omitempty"`
	// Parts are the earlier lines of a packet that several system calls made (MSG_MORE,
	// UDP_CORK, segments of TCP), in order. The document's own line is the last of them.
	Parts   []Line `json:"parts,omitempty"`
	TID     int    `json:"tid"`     // the thread, with which the lines of the trace begin
	Syscall string `json:"syscall"` // sendto, sendmmsg, write, …
	Line    int64  `json:"line"`    // of the trace file, from 1
	Offset  int64  `json:"offset"`  // of the first byte of that line in the (uncompressed) trace file
}

// Line is a line of a trace.
type Line struct {
	Syscall string `json:"syscall"`
	Line    int64  `json:"line"`   // from 1
	Offset  int64  `json:"offset"` // of its first byte
}
