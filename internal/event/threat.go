package event

import (
	"fmt"
	"path/filepath"
)

// Threat is the entry of a list that a question matched, in the fields of ECS for indicators of compromise.
type Threat struct {
	Indicator Indicator `json:"indicator"`
	Feed      Feed      `json:"feed"`
}

// Indicator is the entry itself. All of it is foreign text: whoever publishes the list wrote it.
type Indicator struct {
	Type string `json:"type"` // "domain-name", a type of STIX
	Name string `json:"name"` // the domain in the list
	// Description is the comment beside it.
	Description string `json:"description,omitempty"`
	// Reference is where the entry stands: "/etc/culprit/lists/urlhaus.txt:48211".
	Reference string `json:"reference"`
}

// Feed is the list.
type Feed struct {
	Name string `json:"name"` // of the file, without its directory
}

// A Scope says which names an entry of a list means.
type Scope string

// The scopes.
const (
	ScopeSelf  Scope = "self"  // the name alone
	ScopeBelow Scope = "below" // everything below it, but not itself
	ScopeWhole Scope = "whole" // both
)

// Listed has the fields of a threat that ECS does not have.
type Listed struct {
	File  string `json:"file"`
	Line  int    `json:"line"`
	Scope Scope  `json:"scope"`
}

// NewThreat describes the entry of a list.
func NewThreat(l Listed, name, comment string) *Threat {
	return &Threat{
		Indicator: Indicator{Type: "domain-name", Name: name, Description: comment, Reference: fmt.Sprintf("%s:%d", l.File, l.Line)},
		Feed:      Feed{Name: filepath.Base(l.File)},
	}
}

// Entry names the entry for people: "urlhaus.txt:48211 evil.example # C2, 2026-11-20". It is empty if the hit is not of a list.
func (h *Hit) Entry() string {
	if h.Threat == nil || h.Culprit.Listed == nil {
		return ""
	}
	s := fmt.Sprintf("%s:%d %s", h.Threat.Feed.Name, h.Culprit.Listed.Line, h.Threat.Indicator.Name)
	if h.Threat.Indicator.Description != "" {
		s += " # " + h.Threat.Indicator.Description
	}
	return s
}
