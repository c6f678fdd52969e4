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

// Bounds say how much evidence is kept: what the section "evidence" of the
// configuration says.
type Bounds struct {
	Keep     time.Duration // what is older is removed, proven or not
	MaxBytes int64         // on the disk, of the traces and the catalogue
	MinFree  int64         // bytes that have to stay free on the file system
	Compress bool          // closed traces
}

// A Removal is the file of a trace, or of a capture's packets, that is removed. The
// row stays in the catalogue until it is older than evidence.keep too, with the packets.
type Removal struct {
	ID     string // of the trace or capture
	Name   string // of the file, below the evidence directory; of a trace, uncompressed
	Size   int64  // bytes on the disk
	Proven bool   // it is known which line sent a packet
	Why    event.RemovedCode
}

// packets reports whether it is the packets of a capture.
func (r Removal) packets() bool { return path.Base(r.Name) == directory.Packets }

// stored is a trace, or the packets of a capture, on the disk.
type stored struct {
	id      ulid.ULID // of the trace or capture; its time is that of the start
	capture string
	name    string // below the evidence directory; that of the uncompressed file
	size    int64  // bytes on the disk, in all its forms

	open       bool // it is still written to, or may be
	running    bool // its capture is
	proven     bool
	plain      bool // it is not compressed
	unfinished bool // somebody died compressing it
}

// usage is what there is beside the traces.
type usage struct {
	catalogue int64 // bytes that the catalogue uses
	free      int64 // bytes that are free on the file system
}

// oldest is how far back the bounds let evidence go. It moves in steps, so that what
// grows too old goes, and is counted, in a few large pieces.
func (b Bounds) oldest(now time.Time) time.Time {
	return now.Add(-b.Keep).Truncate(min(time.Hour, b.Keep/24))
}

// plan says which files are to be removed, and why, in that order: the oldest first,
// but those with a proof after all that have none. Nothing of a capture that is running
// is removed. For the sake of free disk no proof is: it may be the very user who is
// hunted that fills the disk.
func plan(b Bounds, now time.Time, u usage, traces []stored) []Removal {
	var candidates []stored
	total := min(u.catalogue, b.MaxBytes/2) // what is more is the catalogue's to remove: no trace pays for it
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
