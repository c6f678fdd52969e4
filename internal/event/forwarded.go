package event

import "strings"

// Forwarded is a hit whose question or message a forwarder has sent on, for the program of that hit.
type Forwarded struct {
	Reference              // to the hit
	How       ForwardedHow `json:"how,omitempty"`
	Grade     Grade        `json:"grade,omitempty"` // of the origin of that hit, when it was seen
	// User and Process are those of that hit. The process has no parents here.
	User    *User    `json:"user,omitempty"`
	Process *Process `json:"process,omitempty"`
	Place
}

// A ForwardedHow says how a packet is known to say what another one said.
type ForwardedHow string

// How a packet is known to say what another one said.
const (
	ForwardedMessage  ForwardedHow = "message"  // it is the same message, with its id
	ForwardedQuestion ForwardedHow = "question" // it asks the same, with an id of the forwarder's
)

// maxForwardedCommand bounds the command line of a process for which was forwarded, in bytes of JSON.
const maxForwardedCommand = 512

// NewForwarded describes a hit for the packet in which it was forwarded.
func NewForwarded(h *Hit) Forwarded {
	f := Forwarded{Reference: Reference{h.Event.ID}, Grade: h.Culprit.Origin.Grade, User: h.Owner(), Place: h.Place}
	if h.Process != nil {
		p := *h.Process
		p.Parent, p.LeftOut = nil, 0
		p.CommandLine = strings.Clone(Cut(p.CommandLine, maxForwardedCommand)) // the whole one is not kept for it
		f.Process = &p
	}
	return f
}

// For returns the hits for which the packet was forwarded: that of which it is known, or all of which it can be.
func (d *HitDetail) For() (all []*Forwarded) {
	if d.ForwardedFrom != nil {
		all = append(all, d.ForwardedFrom)
	}
	for i := range d.ForwardedCandidates {
		all = append(all, &d.ForwardedCandidates[i])
	}
	return all
}

// Served is a network namespace for which a process sends, and who is in it.
type Served struct {
	Netns Namespace `json:"netns"`
	Place           // of a process in it
}
