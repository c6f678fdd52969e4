// Package retention keeps an evidence directory within its bounds: a plan, which is pure, and
// the sweep that carries it out.
package retention

import (
	"cmp"
	"path"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/directory"
	"culprit/internal/event"
)

// Bounds say how much evidence is kept, as the section "evidence" of the configuration does.
type Bounds struct {
	Keep     time.Duration // what is older is removed, proven or not
	MaxBytes int64         // of the traces and the catalogue, on the disk
	MinFree  int64         // bytes that stay free on the file system
	Compress bool          // compress closed traces
}

// A Removal is a file to remove: a trace, the packets of a capture, or the copy of an executable.
// Its rows, which hold the
// packets too, stay in the catalogue until they are older than evidence.keep.
type Removal struct {
	ID     string // of the trace, of the capture, or of the latest snapshot
	Name   string // of the file, below the evidence directory; a trace's uncompressed one
	Size   int64  // bytes on the disk
	Proven bool   // the trace, or the capture, has a proof
	Why    event.RemovedCode
}

// packets reports whether the file holds the packets of a capture.
func (r Removal) packets() bool { return path.Base(r.Name) == directory.Packets }

// stored is a trace, the packets of a capture, or the copy of an executable, on the disk.
type stored struct {
	id      ulid.ULID // of the trace, capture or snapshot; holds the time it began
	capture string
	name    string // of the uncompressed file, below the evidence directory
	size    int64  // bytes on the disk, compressed and not

	open       bool // the trace may still be written
	running    bool // its capture runs
	proven     bool
	plain      bool // there is an uncompressed file
	unfinished bool // somebody was killed compressing it
	left       bool // somebody was killed copying it
}

// usage is the disk space beside the traces.
type usage struct {
	catalogue int64 // bytes that the catalogue uses
	free      int64 // bytes that are free on the file system
}

// oldest returns the time before which evidence is too old. It moves in steps, so that old
// evidence is removed and counted in a few large pieces.
func (b Bounds) oldest(now time.Time) time.Time {
	return now.Add(-b.Keep).Truncate(min(time.Hour, b.Keep/24))
}

// plan returns which files to remove, why, and in which order: the oldest first, but those with a
// proof after all without. It keeps what belongs to a running capture. For MinFree it removes
// nothing with a proof: the user we hunt may be the one who fills the disk.
func plan(b Bounds, now time.Time, u usage, traces []stored) []Removal {
	var candidates []stored
	total := min(u.catalogue, b.MaxBytes/2) // the catalogue itself has to shrink below that
	for _, t := range traces {
		total += t.size
		if !t.open && !t.running {
			candidates = append(candidates, t)
		}
	}
	slices.SortFunc(candidates, func(a, b stored) int {
		if a.proven != b.proven {
			if b.proven {
				return -1
			}
			return 1
		}
		return cmp.Or(a.id.Compare(b.id), cmp.Compare(a.name, b.name))
	})
	var removals []Removal
	remove := func(t stored, why event.RemovedCode) {
		removals = append(removals, Removal{t.id.String(), t.name, t.size, t.proven, why})
		total -= t.size
		u.free += t.size
	}
	oldest := b.oldest(now)
	candidates = slices.DeleteFunc(candidates, func(t stored) bool {
		old := t.id.Timestamp().Before(oldest)
		if old {
			remove(t, event.RemovedKeep)
		}
		return old
	})
	for _, t := range candidates {
		switch {
		case total > b.MaxBytes:
			remove(t, event.RemovedMaxBytes)
		case u.free < b.MinFree && !t.proven:
			remove(t, event.RemovedMinFree)
		default:
			return removals
		}
	}
	return removals
}

// A Report says what a sweep did, or would do.
type Report struct {
	Compressed int              // traces
	Removed    []Removal        // in order
	Expired    map[string]int64 // rows removed from the catalogue, by table
	Bytes      int64            // of the evidence on the disk, before anything was removed
	Free       int64            // bytes that were free on the disk then
}

// Left returns how many bytes the evidence takes after the removals, and how many are free.
func (r Report) Left() (evidence, free int64) {
	evidence, free = r.Bytes, r.Free
	for _, one := range r.Removed {
		evidence, free = evidence-one.Size, free+one.Size
	}
	return evidence, free
}

// The kinds of files that are removed.
const (
	RemovedTrace      = "trace"
	RemovedPackets    = "packets"
	RemovedExecutable = "executable"
)

// What returns the kind of the file.
func (r Removal) What() string {
	switch {
	case r.packets():
		return RemovedPackets
	case r.executable() != "":
		return RemovedExecutable
	}
	return RemovedTrace
}
