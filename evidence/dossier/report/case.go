// Package report explains a capture to people: as one self-contained HTML file that
// loads nothing, or as plain text for a terminal.
//
// Both are written from the same page: what is told, and how much of it, is decided
// once, and everything that others wrote is escaped there. However large the capture
// is, the report stays small: it shows some of a kind, counts the rest and says so.
package report

import (
	"time"

	"culprit/internal/event"
)

// Case is all that a report tells: documents of one capture, as the catalogue holds
// them, and what only the caller knows. Every list may be cut; a field beside it says
// how much is missing, so that the report can. All but Capture may be left empty.
type Case struct {
	Capture event.Capture

	Hits        []event.Hit // by time
	HitsLeftOut int

	// Forwards are hits of local resolvers, which sent the questions of Hits on.
	Forwards []event.Hit

	Traces        []event.Trace
	TracesLeftOut int

	Programs        []event.Program
	ProgramsLeftOut int // beside CaptureDetail.Unlisted

	Losses []event.Loss // that were noticed while the capture lived

	Proofs        []event.Proof
	ProofsLeftOut int
	Excerpts      map[string]Excerpt // by the proof's id
	Unproven      map[string]string  // why a hit has no proof, by the hit's id

	Made    time.Time // when the report is made
	Host    string
	Kernel  string // release, as of uname -r
	Culprit string // version
	Strace  string // version
	Config  string // the configuration, YAML
}

// Excerpt is what of a trace is shown around a proof.
type Excerpt struct {
	Lines []Line
	// Note says more about the thread, such as "thread 815, forked by 812 at line 20".
	Note string
	// Missing says why there are no lines, such as that the trace's file is gone.
	Missing string
}

// Line is a line of a trace file.
type Line struct {
	Number int64 // from 1
	Text   string
	Proof  bool // its system call sent the packet
	Gap    bool // the lines between the one before and this one are left out
}

// Bounds of what a report shows. With all of them reached it stays below 5 MB, even if
// every character has to be escaped.
const (
	maxProofs   = 30  // with excerpt and packet
	maxLines    = 60  // of an excerpt
	maxPackets  = 200 // rows
	maxNodes    = 250 // of the process tree
	maxAlike    = 3   // processes of the tree that have parent and command line in common
	maxDepth    = 500
	maxParents  = 64 // that are looked at
	maxSuspects = 12
	maxRows     = 15 // of other tables
	maxDump     = 1024

	maxProofLine = 4000 // characters
	maxLine      = 300
	maxCommand   = 300
	maxLabel     = 90
	maxConfig    = 64 << 10
)
