// Package event defines what culprit records: hits, captures, traces and losses.
//
// The types are their own machine-readable form. As JSON they are documents of the Elastic
// Common Schema 8 (https://www.elastic.co/docs/reference/ecs) as far as it has fields, with
// everything else below "culprit". Logs, --json output and the catalogue all use them, so there
// is one schema to know.
package event

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Actions are the values of event.action: the kind of a document.
const (
	ActionHit     = "hit"
	ActionCapture = "capture"
	ActionTrace   = "trace"
	ActionProgram = "program"
	ActionProof   = "proof"
	ActionLoss    = "loss"
)

// Meta is the "event" object of a document.
type Meta struct {
	ID       string     `json:"id"`
	Kind     string     `json:"kind"` // "alert" for hits, "event" for the rest
	Action   string     `json:"action"`
	Start    *time.Time `json:"start,omitempty"`
	End      *time.Time `json:"end,omitempty"`
	Duration int64      `json:"duration,omitempty"` // nanoseconds, set together with End
}

// Finish sets the end, and the duration from it.
func (m *Meta) Finish(t time.Time) {
	m.End = &t
	if m.Start != nil {
		m.Duration = t.Sub(*m.Start).Nanoseconds()
	}
}

// Rule names a configured rule.
type Rule struct {
	Name string `json:"name"`
}

// Group is a group of users.
type Group struct {
	ID string `json:"id"`
}

// User is a user of this machine.
type User struct {
	ID    string `json:"id"` // the UID, in decimal
	Name  string `json:"name,omitempty"`
	Group *Group `json:"group,omitempty"`
}

// UID returns ID as a number.
func (u *User) UID() uint32 {
	n, _ := strconv.ParseUint(u.ID, 10, 32)
	return uint32(n)
}

// String names the user for people: "web1 (4242)", or "4242".
func (u *User) String() string {
	switch {
	case u == nil:
		return "unknown"
	case u.Name == "" || u.Name == u.ID:
		return u.ID
	}
	return u.Name + " (" + u.ID + ")"
}

// Network says which protocols a packet used.
type Network struct {
	Transport string `json:"transport,omitempty"` // udp, tcp, or the protocol's number
	Type      string `json:"type,omitempty"`      // ipv4 or ipv6
	Bytes     int    `json:"bytes,omitempty"`     // length of the whole packet
}

// Endpoint is the source or destination of a packet. Port is 0 if the packet has none.
type Endpoint struct {
	IP   netip.Addr `json:"ip,omitzero"`
	Port uint16     `json:"port,omitempty"`
}

// String writes the endpoint as "192.0.2.1:53" or "[2001:db8::1]:53".
func (e Endpoint) String() string {
	if !e.IP.IsValid() {
		return "unknown"
	}
	return netip.AddrPortFrom(e.IP, e.Port).String()
}

// DNS is a question of a DNS message (RFC 1035, section 4.1.2).
type DNS struct {
	ID       string   `json:"id"` // the message's id, in decimal
	Question Question `json:"question"`
}

// Question is the question itself. Name is in lower case and has no trailing dot; bytes that
// are not printable are escaped.
type Question struct {
	Name  string `json:"name"`
	Type  string `json:"type"`  // A, AAAA, TXT, … or TYPE65280
	Class string `json:"class"` // IN, …
}

// Process is one process, as it was when it was read from /proc.
type Process struct {
	PID              int       `json:"pid"`
	EntityID         string    `json:"entity_id"` // PID and start time: no other process ever has the same
	Start            time.Time `json:"start"`
	Name             string    `json:"name,omitempty"` // the kernel's comm
	Executable       string    `json:"executable,omitempty"`
	CommandLine      string    `json:"command_line,omitempty"`
	WorkingDirectory string    `json:"working_directory,omitempty"`
	RealUser         *User     `json:"real_user,omitempty"`
	Parent           *Process  `json:"parent,omitempty"`
	// LeftOut counts the processes between this one and Parent that are not described because
	// the chain is too long. Without a Parent, at least this many are above it.
	LeftOut  int  `json:"parents_left_out,omitempty"`
	ExitCode *int `json:"exit_code,omitempty"` // 128+n if signal n killed it
}

// String names the process for people: "812 php cron.php".
func (p *Process) String() string {
	what := p.CommandLine
	if what == "" {
		what = p.Executable
	}
	if what == "" {
		what = p.Name
	}
	return fmt.Sprintf("%d %s", p.PID, what)
}

// Ancestry names the process's parents for people, nearest first, and how many were left out.
func (p *Process) Ancestry() (lines []string) {
	for at := p; at != nil; at = at.Parent {
		if at != p {
			lines = append(lines, at.String())
		}
		switch {
		case at.LeftOut > 0 && at.Parent != nil:
			lines = append(lines, fmt.Sprintf("… (%d not described)", at.LeftOut))
		case at.LeftOut > 0:
			lines = append(lines, "… (others that are not described)")
		}
	}
	return lines
}

// Container is the container that a process runs in.
type Container struct {
	ID string `json:"id"`
}

// Reference names another document by its event.id.
type Reference struct {
	ID string `json:"id"`
}

// Grade says how sure we are of a hit's origin.
type Grade string

// The grades of an origin, best first.
const (
	GradeProof      Grade = "proof"      // a line of a trace sent this very packet, see Proof
	GradeSocket     Grade = "socket"     // the process holds the socket the packet came from
	GradeCandidates Grade = "candidates" // a guess: the processes of that UID that were alive then
	GradeNone       Grade = "none"       // no process was found
)

// Origin is what is known about the process that sent a hit's packet.
type Origin struct {
	Grade Grade `json:"grade"`
	// Reason says why the grade is not "socket".
	Reason *Unattributed `json:"reason,omitempty"`
	// Unlisted says that nobody searched the user's processes for candidates, because they had
	// just been searched for another packet.
	Unlisted bool `json:"unlisted,omitempty"`
	// Processes are the candidates. If the grade is "socket", they are those that hold the
	// socket besides the document's "process".
	Processes []Process `json:"processes,omitempty"`
	// More counts the processes left out of Processes.
	More int `json:"more,omitempty"`
}

// Hit is one logged packet that matched a rule.
type Hit struct {
	Timestamp   time.Time  `json:"@timestamp"`
	Event       Meta       `json:"event"`
	Rule        Rule       `json:"rule"`
	User        *User      `json:"user,omitempty"` // nil: the kernel gave no UID
	Network     Network    `json:"network"`
	Source      Endpoint   `json:"source"`
	Destination Endpoint   `json:"destination"`
	DNS         *DNS       `json:"dns,omitempty"` // the first question
	Process     *Process   `json:"process,omitempty"`
	Container   *Container `json:"container,omitempty"`
	Culprit     HitDetail  `json:"culprit"`

	// Packet is the packet from its IP header on, cut at nflog.snaplen.
	Packet []byte `json:"-"`
}

// HitDetail holds the fields of a hit that ECS does not have.
type HitDetail struct {
	Capture *Reference `json:"capture,omitempty"` // that the hit started or joined
	// NoCapture says why there is no Capture.
	NoCapture *NoCapture `json:"no_capture,omitempty"`
	Origin    Origin     `json:"origin"`
	// Count is how many identical packets came within a second of the first, in all.
	Count int `json:"count"`
	// Questions are all questions if the packet asked more than one.
	Questions []DNS `json:"questions,omitempty"`
	// Truncated says that the packet was longer than nflog.snaplen.
	Truncated bool `json:"truncated,omitempty"`
	// Proof is the line of a trace that sent the packet, once it is found.
	Proof *ProofDetail `json:"proof,omitempty"`
	// ForwardedFrom is the hit whose question a local resolver forwarded with this packet.
	ForwardedFrom *Reference `json:"forwarded_from,omitempty"`
}

// Senders returns the processes that hold the packet's socket, if any are known.
func (h *Hit) Senders() []Process {
	if h.Process == nil {
		return nil
	}
	return append([]Process{*h.Process}, h.Culprit.Origin.Processes...)
}

// Asks returns the question of the packet for people: "x.badzone.test A", or "-".
func (h *Hit) Asks() string {
	if h.DNS == nil {
		return "-"
	}
	return h.DNS.Question.Name + " " + h.DNS.Question.Type
}

// States of captures and traces.
const (
	StateRunning  = "running"
	StateDraining = "draining" // of a capture that starts no more straces and waits for the running ones
	StateEnded    = "ended"
	StateLost     = "lost" // the daemon died while it ran
)

// Capture is a bounded strace campaign against one UID.
type Capture struct {
	Timestamp time.Time     `json:"@timestamp"` // when it started
	Event     Meta          `json:"event"`
	Rule      *Rule         `json:"rule,omitempty"` // of the hit that started it
	User      User          `json:"user"`
	Observer  *Observer     `json:"observer,omitempty"` // the culprit that captured
	Host      *Host         `json:"host,omitempty"`
	Culprit   CaptureDetail `json:"culprit"`
}

// Observer is the culprit that captured.
type Observer struct {
	Product string `json:"product"` // culprit
	Version string `json:"version"`
}

// Host is the machine it ran on.
type Host struct {
	Hostname string `json:"hostname,omitempty"`
	OS       OS     `json:"os"`
}

// OS is the machine's operating system.
type OS struct {
	Kernel string `json:"kernel,omitempty"` // its release, as uname -r prints it
}

// CaptureDetail holds the fields of a capture that ECS does not have.
type CaptureDetail struct {
	State string `json:"state"`
	Scope string `json:"scope"` // user or process
	Level int    `json:"level"` // from 1
	// Raised says when the level rose.
	Raised []Raise `json:"raised,omitempty"`
	Hits   int     `json:"hits"`
	Traces int     `json:"traces"` // straces that attached
	// EndedBecause says why the capture traces nothing more, once it does not.
	EndedBecause *Ended `json:"ended_because,omitempty"`
	// Missed counts the processes that were found but not traced, by reason. Examples describes
	// the first of them.
	Missed   MissedCounts `json:"missed,omitempty"`
	Examples []Missed     `json:"missed_examples,omitempty"`
	// Programs counts the processes seen under the UID, traced or not. Unseen counts those that
	// were gone before they could be examined, Unlisted those of Programs that were too many to
	// list.
	Programs int `json:"programs"`
	Unseen   int `json:"unseen,omitempty"`
	Unlisted int `json:"unlisted,omitempty"`
	// Overruns counts how often process events were lost and /proc was scanned again.
	Overruns int `json:"overruns,omitempty"`
	// GateFailures counts how often the gate failed. Programs that started meanwhile were found
	// in other ways, a little later.
	GateFailures int `json:"gate_failures,omitempty"`
	// Unheld counts the programs that the gate let go because the daemon did not answer. They
	// were found in other ways, too. The gate holds for all captures, so every live one counts
	// them.
	Unheld int `json:"unheld,omitempty"`
	// FirstHit is the hit that started the capture.
	FirstHit *Reference `json:"first_hit,omitempty"`
	// Strace is the version of strace, Config the text of the configuration.
	Strace string `json:"strace,omitempty"`
	Config string `json:"config,omitempty"`
}

// Raise is a moment at which the level of a capture rose.
type Raise struct {
	Timestamp time.Time `json:"@timestamp"`
	Level     int       `json:"level"` // from then on
}

// Missed is a process that was found but not traced.
type Missed struct {
	PID         int      `json:"pid"`
	CommandLine string   `json:"command_line,omitempty"`
	Reason      Untraced `json:"reason"`
}

// MissedCounts counts processes by why they were not traced.
type MissedCounts map[UntracedCode]int

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
