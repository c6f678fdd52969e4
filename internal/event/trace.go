package event

import (
	"fmt"
	"time"
)

// Trace is the strace output of one process and its descendants.
type Trace struct {
	Timestamp time.Time   `json:"@timestamp"` // when strace started
	Event     Meta        `json:"event"`
	Rule      *Rule       `json:"rule,omitempty"`
	User      User        `json:"user"`
	Process   Process     `json:"process"`
	Container *Container  `json:"container,omitempty"`
	File      File        `json:"file"`
	Culprit   TraceDetail `json:"culprit"`
}

// File is a file of the evidence.
type File struct {
	Path string `json:"path"` // absolute
	Size int64  `json:"size"` // bytes
}

// TraceDetail holds the fields of a trace that ECS does not have.
type TraceDetail struct {
	Capture Reference  `json:"capture"`
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
	FromStart    bool   `json:"from_start"`
	EndedBecause *Ended `json:"ended_because,omitempty"`
	Truncated    bool   `json:"truncated,omitempty"` // the trace reached capture.trace_bytes
	Lost         int64  `json:"lost,omitempty"`      // bytes of strace output not kept
	// Removed says why the file is gone, if evidence.keep, max_bytes or min_free required that.
	Removed *Removed `json:"removed,omitempty"`
	// Proofs are the hits whose packets were sent by lines of the trace.
	Proofs []ProofDetail `json:"proofs,omitempty"`
}

// Life says for people which part of the program's life the trace covers.
func (d *TraceDetail) Life() string {
	if d.FromStart {
		return "from start"
	}
	return fmt.Sprintf("from %.0f ms after its start", d.AgeMS)
}

// Program is a process that ran under the UID of a capture during the capture, traced or not.
type Program struct {
	Timestamp time.Time     `json:"@timestamp"` // when it was first seen
	Event     Meta          `json:"event"`      // with the start, and with the end once there is one
	User      User          `json:"user"`
	Process   Process       `json:"process"` // as it was last seen
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
	FoundScan = "scan" // by a scan of /proc, at the start or later
	FoundFork = "fork" // the proc connector reported its fork
	FoundExec = "exec" // … its execve
	FoundUID  = "uid"  // … its change to this UID
	FoundPoll = "poll" // by polling /proc, if there is no proc connector
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
	File    File        `json:"file"` // the trace
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
	Probable bool   `json:"probable,omitempty"`
	TID      int    `json:"tid"`     // the thread, with which the lines of the trace begin
	Syscall  string `json:"syscall"` // sendto, sendmmsg, write, …
	Line     int64  `json:"line"`    // of the trace file, from 1
	Offset   int64  `json:"offset"`  // of the first byte of that line in the (uncompressed) trace file
}
