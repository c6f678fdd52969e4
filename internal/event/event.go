// Package event defines what culprit records: hits, captures, traces and losses.
//
// The types are their own machine-readable form. Encoded as JSON they are
// documents of the Elastic Common Schema 8 (https://www.elastic.co/docs/reference/ecs)
// where it has a field, with everything else below "culprit". Logs, --json output
// and the catalogue all use it, so there is one schema to know.
package event

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Actions, the values of event.action: what kind of thing a document is.
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
	Duration int64      `json:"duration,omitempty"` // nanoseconds, set with End
}

// Finish sets when the thing ended.
func (m *Meta) Finish(t time.Time) {
	m.End = &t
	if m.Start != nil {
		m.Duration = t.Sub(*m.Start).Nanoseconds()
	}
}

// Rule names a rule of the configuration.
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

// UID returns the number in ID.
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

// Endpoint is one end of a packet's way. Port is 0 where the packet has none.
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

// Question is what is asked. Name has no trailing dot and is in lower case; bytes
// that are not printable are escaped.
type Question struct {
	Name  string `json:"name"`
	Type  string `json:"type"`  // A, AAAA, TXT, … or TYPE65280
	Class string `json:"class"` // IN, …
}

// Process is one process, as it was when it was looked at.
type Process struct {
	PID              int       `json:"pid"`
	EntityID         string    `json:"entity_id"` // PID and start time: no other process ever has it
	Start            time.Time `json:"start"`
	Name             string    `json:"name,omitempty"` // the kernel's comm
	Executable       string    `json:"executable,omitempty"`
	CommandLine      string    `json:"command_line,omitempty"`
	WorkingDirectory string    `json:"working_directory,omitempty"`
	RealUser         *User     `json:"real_user,omitempty"`
	Parent           *Process  `json:"parent,omitempty"`
	// LeftOut counts the processes between this one and Parent that are not described, as
	// the chain is too long; without a Parent, those above it: one or more.
	LeftOut  int  `json:"parents_left_out,omitempty"`
	ExitCode *int `json:"exit_code,omitempty"` // 128+n when killed by signal n
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

// Ancestry names the process's parents for people, the nearest first, and how many were
// left out.
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
	GradeProof      Grade = "proof"      // a line of its trace sent the very packet, see Proof
	GradeSocket     Grade = "socket"     // the process holds the socket the packet came from
	GradeCandidates Grade = "candidates" // a guess: the processes of that UID alive at that moment
	GradeNone       Grade = "none"       // nobody was found
)

// Origin is the process a hit came from, as far as it is known.
type Origin struct {
	Grade Grade `json:"grade"`
	// Reason says why the grade is not "socket".
	Reason *Unattributed `json:"reason,omitempty"`
	// Unlisted says that the user's processes were not looked through for candidates, as
	// they had been for another packet just before.
	Unlisted bool `json:"unlisted,omitempty"`
	// Processes are the candidates; if the grade is "socket", those that hold it
	// beside the document's "process".
	Processes []Process `json:"processes,omitempty"`
	// More counts those that were left out of Processes.
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

// HitDetail is what ECS has no field for.
type HitDetail struct {
	Capture *Reference `json:"capture,omitempty"` // which the hit started or joined
	// NoCapture says why there is none.
	NoCapture *NoCapture `json:"no_capture,omitempty"`
	Origin    Origin     `json:"origin"`
	// Count is how many identical packets came within a second of the first.
	Count int `json:"count"`
	// Questions are all of them where the packet asked more than one.
	Questions []DNS `json:"questions,omitempty"`
	// Truncated says that the packet was longer than nflog.snaplen.
	Truncated bool `json:"truncated,omitempty"`
	// Proof is the line of a trace that sent the packet, once it is found.
	Proof *ProofDetail `json:"proof,omitempty"`
	// ForwardedFrom is the hit whose question a local resolver sent on with this one.
	ForwardedFrom *Reference `json:"forwarded_from,omitempty"`
}

// Senders are the processes that hold the packet's socket, if any are known.
func (h *Hit) Senders() []Process {
	if h.Process == nil {
		return nil
	}
	return append([]Process{*h.Process}, h.Culprit.Origin.Processes...)
}

// Asks says for people what the packet asks: "x.badzone.test A", or "-".
func (h *Hit) Asks() string {
	if h.DNS == nil {
		return "-"
	}
	return h.DNS.Question.Name + " " + h.DNS.Question.Type
}

// States of captures and traces.
const (
	StateRunning  = "running"
	StateDraining = "draining" // a capture that starts nothing new and waits for its straces
	StateEnded    = "ended"
	StateLost     = "lost" // the daemon died while it ran
)

// Capture is a bounded strace campaign against one UID.
type Capture struct {
	Timestamp time.Time     `json:"@timestamp"` // when it started
	Event     Meta          `json:"event"`
	Rule      *Rule         `json:"rule,omitempty"` // of the hit that started it
	User      User          `json:"user"`
	Observer  *Observer     `json:"observer,omitempty"` // who captured
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

// CaptureDetail is what ECS has no field for.
type CaptureDetail struct {
	State string `json:"state"`
	Scope string `json:"scope"` // user or process
	Level int    `json:"level"` // from 1
	// Raised says when the level was raised.
	Raised []Raise `json:"raised,omitempty"`
	Hits   int     `json:"hits"`
	Traces int     `json:"traces"` // straces that attached
	// EndedBecause says why nothing more is traced, once that is so.
	EndedBecause *Ended `json:"ended_because,omitempty"`
	// Missed counts, by reason, the processes that were found and not traced,
	// and Examples describes the first of them.
	Missed   MissedCounts `json:"missed,omitempty"`
	Examples []Missed     `json:"missed_examples,omitempty"`
	// Programs counts the processes that were seen under the UID, traced or not.
	// Unseen counts those that were gone before they could be looked at, and
	// Unlisted those of Programs that were too many to be listed.
	Programs int `json:"programs"`
	Unseen   int `json:"unseen,omitempty"`
	Unlisted int `json:"unlisted,omitempty"`
	// Overruns counts how often process events were lost and /proc was scanned anew.
	Overruns int `json:"overruns,omitempty"`
	// GateFailures counts how often the gate failed: programs that started then
	// were found by other ways, a little later.
	GateFailures int `json:"gate_failures,omitempty"`
	// Unheld counts programs that the gate let go because the daemon did not listen.
	// They were found by other ways, too. The gate holds for all captures, so each
	// that was live then counts them.
	Unheld int `json:"unheld,omitempty"`
	// FirstHit is the hit that started the capture.
	FirstHit *Reference `json:"first_hit,omitempty"`
	// Strace is the version of strace, and Config the text of the configuration.
	Strace string `json:"strace,omitempty"`
	Config string `json:"config,omitempty"`
}

// Raise is a moment when a capture was intensified.
type Raise struct {
	Timestamp time.Time `json:"@timestamp"`
	Level     int       `json:"level"` // from then on
}

// Missed is a process that was found and not traced.
type Missed struct {
	PID         int      `json:"pid"`
	CommandLine string   `json:"command_line,omitempty"`
	Reason      Untraced `json:"reason"`
}

// MissedCounts counts processes by why they are not traced.
type MissedCounts map[UntracedCode]int

// Trace is the strace output of one process and its descendants.
type Trace struct {
	Timestamp time.Time   `json:"@timestamp"` // when strace was started
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

// TraceDetail is what ECS has no field for.
type TraceDetail struct {
	Capture Reference  `json:"capture"`
	Hit     *Reference `json:"hit,omitempty"` // the hit that triggered it
	State   string     `json:"state"`
	// FoundBy says how the process was found: see the Found constants.
	FoundBy string   `json:"found_by"`
	Command []string `json:"command"` // strace and its arguments
	Strace  int      `json:"strace"`  // the PID of that strace
	// AgeMS is how old the process was when strace was on it, AttachMS how long
	// that took from finding the process. Both in milliseconds.
	AgeMS    float64 `json:"age_ms"`
	AttachMS float64 `json:"attach_ms"`
	// FromStart says that the program was held until strace was on it: the trace
	// begins with its first instruction.
	FromStart    bool   `json:"from_start"`
	EndedBecause *Ended `json:"ended_because,omitempty"`
	Truncated    bool   `json:"truncated,omitempty"` // the trace reached capture.trace_bytes
	Lost         int64  `json:"lost,omitempty"`      // bytes of strace output not kept
	// Removed says why the file is not there any more, if evidence.keep, max_bytes or
	// min_free wanted that.
	Removed *Removed `json:"removed,omitempty"`
	// Proofs are the hits whose packets the trace shows being sent.
	Proofs []ProofDetail `json:"proofs,omitempty"`
}

// Life says for people what of the program's life the trace holds.
func (d *TraceDetail) Life() string {
	if d.FromStart {
		return "from start"
	}
	return fmt.Sprintf("from %.0f ms after its start", d.AgeMS)
}

// Program is a process that lived under the UID of a capture while that lived,
// traced or not.
type Program struct {
	Timestamp time.Time     `json:"@timestamp"` // when it was first seen
	Event     Meta          `json:"event"`      // with the start, and the end once it has ended
	User      User          `json:"user"`
	Process   Process       `json:"process"` // as what it was last seen
	Culprit   ProgramDetail `json:"culprit"`
}

// ProgramDetail is what ECS has no field for.
type ProgramDetail struct {
	Capture Reference `json:"capture"`
	FoundBy string    `json:"found_by"`
	Traced  bool      `json:"traced"`
	// Trace is the trace of this very process; a traced process without one is in
	// the trace of an ancestor.
	Trace *Reference `json:"trace,omitempty"`
	// Reason says why it is not traced.
	Reason *Untraced `json:"reason,omitempty"`
}

// How a process was found.
const (
	FoundGate = "gate" // it was held in its execve until strace was on it
	FoundScan = "scan" // it was there at the first scan of /proc, or at a later one
	FoundFork = "fork" // the proc connector told of its fork
	FoundExec = "exec" // … of its execve
	FoundUID  = "uid"  // … that it became this UID
	FoundPoll = "poll" // by polling /proc, where there is no proc connector
	// FoundDescendant: strace followed an ancestor into it.
	FoundDescendant = "descendant"
)

// Proof says which line of a trace sent a hit's packet: its system call carries the
// packet's bytes.
type Proof struct {
	Timestamp time.Time `json:"@timestamp"` // when the system call began, by strace
	Event     Meta      `json:"event"`
	Rule      Rule      `json:"rule"` // of the hit
	User      User      `json:"user"`
	// Process is the thread's process, as what it was last seen.
	Process Process     `json:"process"`
	File    File        `json:"file"` // the trace
	Culprit ProofDetail `json:"culprit"`
}

// ProofDetail is what ECS has no field for.
type ProofDetail struct {
	Capture Reference `json:"capture"`
	Hit     Reference `json:"hit"`
	Trace   Reference `json:"trace"`
	// Probable says that bytes or addresses are missing on one side (strace cut the
	// string short, or the packet was longer than nflog.snaplen): all that both sides
	// have agrees, but that is not everything.
	Probable bool   `json:"probable,omitempty"`
	TID      int    `json:"tid"`     // the thread, as the trace's lines begin with
	Syscall  string `json:"syscall"` // sendto, sendmmsg, write, …
	Line     int64  `json:"line"`    // of the trace file, from 1
	Offset   int64  `json:"offset"`  // of that line's first byte in the (uncompressed) trace file
}
