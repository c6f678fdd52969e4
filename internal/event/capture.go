package event

import (
	"cmp"
	"time"
)

// States of captures and traces.
const (
	StateRunning  = "running"
	StateDraining = "draining" // of a capture that starts no more straces and waits for the running ones
	StateEnded    = "ended"
	StateLost     = "lost" // the daemon died while it ran
)

// Capture is a bounded strace campaign against one UID, on the host or in one container.
type Capture struct {
	Timestamp time.Time     `json:"@timestamp"` // when it started
	Event     Meta          `json:"event"`
	Rule      *Rule         `json:"rule,omitempty"` // of the hit that started it
	User      User          `json:"user"`
	Place                   // the container, if the processes of one are captured
	Observer  *Observer     `json:"observer,omitempty"` // the culprit that captured
	Host      *Host         `json:"host,omitempty"`
	Culprit   CaptureDetail `json:"culprit"`
}

// Whose says whose processes are captured: a user, a user in a container, or all of a container.
func (c *Capture) Whose() string {
	if c.Container == nil {
		return c.User.String()
	}
	in := c.Container.Label()
	if c.Culprit.Scope == "container" {
		return "all users in " + in
	}
	if c.User.Inside.Container != "" {
		return c.User.String() // which says it
	}
	return c.User.String() + " in " + in
}

// Observer is the culprit that captured.
type Observer struct {
	Product string `json:"product"` // culprit
	Version string `json:"version"`
}

// Host is the machine it ran on.
type Host struct {
	// Name is what its fleet calls it; "" in the machine's own evidence.
	Name     string `json:"name,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	OS       OS     `json:"os,omitzero"`
}

// String names the host for people.
func (h *Host) String() string {
	if h == nil {
		return ""
	}
	return cmp.Or(h.Name, h.Hostname)
}

// OS is the machine's operating system.
type OS struct {
	Kernel string `json:"kernel,omitempty"` // its release, as uname -r prints it
}

// CaptureDetail holds the fields of a capture that ECS does not have.
type CaptureDetail struct {
	State string `json:"state"`
	Scope string `json:"scope"` // user, process or container
	// Anywhere says that the user is captured on the host and in every container.
	Anywhere bool `json:"anywhere,omitempty"`
	Level    int  `json:"level"` // from 1
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
