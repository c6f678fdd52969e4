// Package event defines what culprit records: hits, captures, traces and losses.
//
// The types are their own machine-readable form. As JSON they are documents of the Elastic
// Common Schema 8 (https://www.elastic.co/docs/reference/ecs) as far as it has fields, with
// everything else below "culprit". Logs, --json output and the catalogue all use them, so there
// is one schema to know.
package event

import (
	"cmp"
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
	// ActionSnapshot is what a process was when it sent a packet.
	ActionSnapshot = "snapshot"
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

// Rule names a rule: of the configuration, or of a set of rules that the host gets from its fleet.
type Rule struct {
	Name string `json:"name"`
	// Ruleset is the set, Version the version of it; empty for rules of the configuration.
	Ruleset string `json:"ruleset,omitempty"`
	Version string `json:"version,omitempty"`
}

// String names the rule for people: "badzone", or "badzone (version 3 of the fleet's set zones)".
func (r Rule) String() string {
	if r.Ruleset == "" {
		return r.Name
	}
	return fmt.Sprintf("%s (version %s of the fleet's set %s)", r.Name, r.Version, r.Ruleset)
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
	// Inside is who that is inside a container.
	Inside Inside `json:"inside,omitzero"`
}

// Inside is a user as a container knows him.
type Inside struct {
	ID        string `json:"id"`             // the UID inside
	Name      string `json:"name,omitempty"` // by the container's /etc/passwd, which may say anything
	Container string `json:"container"`      // see [Container.Label]
}

// UID returns ID as a number.
func (u *User) UID() uint32 {
	n, _ := strconv.ParseUint(u.ID, 10, 32)
	return uint32(n)
}

// String names the user for people: "web1 (4242)", "4242", or "100033 (www-data in web-1)".
func (u *User) String() string {
	switch {
	case u == nil:
		return "unknown"
	case u.Inside.Container != "":
		return u.ID + " (" + cmp.Or(u.Inside.Name, u.Inside.ID) + " in " + u.Inside.Container + ")"
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

	// What the program was told, as a trace shows it. It is read from the trace when somebody asks
	// for it, and not recorded; see [Answer].
	ResponseCode string       `json:"response_code,omitempty"` // NOERROR, NXDOMAIN, …
	Answers      []DNSRecord  `json:"answers,omitempty"`
	ResolvedIP   []netip.Addr `json:"resolved_ip,omitempty"` // what the name in the question is
}

// DNSRecord is a record of an answer.
type DNSRecord struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Class string `json:"class"`
	TTL   uint32 `json:"ttl"`  // seconds
	Data  string `json:"data"` // as in a master file
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

// Place is where a process runs, if that is not the host itself.
type Place struct {
	Container    *Container    `json:"container,omitempty"`
	Orchestrator *Orchestrator `json:"orchestrator,omitempty"`
}

// Container is the container that a process runs in.
type Container struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Image   *Image `json:"image,omitempty"`
	Runtime string `json:"runtime,omitempty"` // docker, containerd, cri-o, podman, lxc, systemd-nspawn
	// Claimed says that only the name of a cgroup has the id, which the owner of the process may have
	// made up: no runtime on this machine is known to have such a container.
	Claimed bool `json:"claimed,omitempty"`
	// Parent is the container that this one runs in. What is known of this one, apart from its id, then is from the files in
	// that one, whose root may have written anything there.
	Parent *Container `json:"parent,omitempty"`
}

// Label names the container for people: its name, or the begin of its id.
func (c *Container) Label() string {
	if c.Name != "" {
		return c.Name
	}
	const short = 12 // as runtimes print it
	if len(c.ID) == 64 {
		return c.ID[:short]
	}
	return c.ID
}

// Image is what a container was made from.
type Image struct {
	Name string `json:"name"` // docker.io/library/nginx:1.27
}

// Orchestrator says which pod a container belongs to.
type Orchestrator struct {
	Type      string   `json:"type,omitempty"` // kubernetes
	Namespace string   `json:"namespace,omitempty"`
	Resource  Resource `json:"resource"`
}

// Resource is a pod.
type Resource struct {
	Type string `json:"type"` // pod
	Name string `json:"name,omitempty"`
	ID   string `json:"id,omitempty"`
}

// Reference names another document by its event.id.
type Reference struct {
	ID string `json:"id"`
}
