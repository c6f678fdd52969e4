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
