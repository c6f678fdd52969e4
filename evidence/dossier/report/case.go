// Package report explains a capture to people: as one self-contained HTML file that
// loads nothing, or as plain text for a terminal.
//
// Both show the same page, which decides what they show and how much of it, and escapes everything
// that others wrote. However large the capture is, the report stays small: it shows some of each
// kind, counts the rest and says so.
package report

import (
	"time"

	"culprit/internal/event"
)

// Case is everything that a report shows: the documents of one capture from the catalogue, and what
// only the caller knows. Every list may be cut; the field beside it says how much is missing. All
// but Capture may be empty.
type Case struct {
	Capture event.Capture

	Hits        []event.Hit // by time
	HitsLeftOut int

	// Forwards are hits of packets in which local resolvers forwarded the questions of Hits.
	Forwards []event.Hit

	Traces        []event.Trace
	TracesLeftOut int

	Programs        []event.Program
	ProgramsLeftOut int // beside CaptureDetail.Unlisted

	Snapshots        []event.Snapshot
	SnapshotsLeftOut int

	Losses []event.Loss // of the time of the capture

	Proofs        []event.Proof
	ProofsLeftOut int
	Excerpts      map[string]Excerpt // by the proof's id
	Unproven      map[string]string  // why a hit has no proof, by the hit's id

	// Stories are what the first senders did. What followed the packets is in Hits.
	Stories    []*Story
	Unanswered map[string]string // why a hit has no answer, by the hit's id

	Made    time.Time // when the report is made
	Host    string
	Kernel  string // release, as of uname -r
	Culprit string // version
	Strace  string // version
	Config  string // the configuration, YAML
}

// Excerpt is the part of a trace that is shown around a proof.
type Excerpt struct {
	Lines []Line
	// Note describes the thread: "thread 815, forked by 812 at line 20".
	Note string
	// Missing says why there are no lines: perhaps the file of the trace is gone.
	Missing string
}

// Line is a line of a trace file.
type Line struct {
	Number int64 // from 1
	Text   string
	Proof  bool // its system call sent the packet
	Gap    bool // lines before this one are left out
}

// Bounds of what a report shows. At all of them it stays below 5 MB, even if every character has to
// be escaped.
const (
	maxProofs   = 30  // with excerpt and packet
	maxLines    = 60  // of an excerpt
	maxPackets  = 200 // rows
	maxNodes    = 250 // of the process tree
	maxAlike    = 3   // processes of the tree with the same parent and command line
	maxDepth    = 500
	maxParents  = 64 // that are followed
	maxSuspects = 12
	maxRows     = 15 // of other tables
	maxDump     = 1024

	maxSnapshots = 5
	maxFact      = 200 // of a snapshot

	maxProofLine = 4000 // characters
	maxLine      = 300
	maxCommand   = 300
	maxLabel     = 90
	maxConfig    = 64 << 10
)
