package snapshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// A step reads something of a process. It returns what puts that into the document, and is to
// be called by whoever owns the document.
type step struct {
	parts []event.SnapshotPart
	read  func() put
}

// put changes what is known of a process.
type put func(*event.Snapshot, *sight)

// sight is what the next steps have to know, and the document does not show.
type sight struct {
	mounts   []proc.Mount
	devices  map[string]bool // major:minor of mapped files
	mapsRead bool
}

// steps are everything that is read of /proc: first what the process cannot make us wait for.
func (t *Taker) steps(r Request, exe *executable) []step {
	pid := r.ID.PID
	parts := func(p ...event.SnapshotPart) []event.SnapshotPart { return p }
	return []step{
		{parts(event.PartProcess), func() put { return t.identity(pid) }},
		{parts(event.PartRegisters), func() put { return t.registers(pid, r.TID) }},
		{parts(event.PartFiles, event.PartSockets), func() put { return t.files(pid) }},
		{nil, func() put { return t.place(pid, exe) }},
		// For what follows the kernel may have to wait for the memory of the process.
		{parts(event.PartMaps), func() put { return t.maps(pid) }},
		{parts(event.PartArgs), func() put { return t.args(pid) }},
		{parts(event.PartEnvironment), func() put { return t.environment(pid) }},
		{parts(event.PartProcess), func() put { return t.describe(r.ID) }},
	}
}

// collect makes steps and puts what they read into the document, as far as that is there within
// the limit. A step that hangs keeps its goroutine, and its place in t.reading.
func (t *Taker) collect(d *event.Snapshot, steps []step, limit time.Duration) (seen sight) {
	late := func(steps []step, code event.IncompleteCode) {
		for _, s := range steps {
			for _, p := range s.parts {
				if !slices.ContainsFunc(d.Culprit.Incomplete, func(i event.Incomplete) bool { return i.Part == p }) {
					d.Culprit.Miss(p, code, "")
				}
			}
		}
	}
	user := d.User.ID
	if !t.reading.take(user) {
		late(steps, event.IncompleteBusy)
		return seen
	}
	results := make(chan put, len(steps))
	enough := make(chan struct{})
	defer close(enough)
	go func() {
		defer t.reading.free(user)
		for _, s := range steps {
			select {
			case <-enough:
				return
			default:
				results <- s.read()
			}
		}
	}()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for i := range steps {
		select {
		case set := <-results:
			set(d, &seen)
		case <-timeout.C:
			late(steps[i:], event.IncompleteTime)
			return seen
		}
	}
	return seen
}

// missed is a step that failed.
func missed(part event.SnapshotPart, err error) put {
	return func(d *event.Snapshot, _ *sight) { d.Culprit.Miss(part, code(err), err.Error()) }
}

// code says why something could not be read.
func code(err error) event.IncompleteCode {
	if errors.Is(err, proc.ErrGone) || errors.Is(err, os.ErrNotExist) {
		return event.IncompleteGone
	}
	return event.IncompleteFailed
}

// name returns the path of a file of a process.
func (t *Taker) name(pid int, file string) string { return fmt.Sprintf("%s/%d/%s", t.FS, pid, file) }

// maxRead is how much of a file of a process is read, in bytes.
const maxRead = 256 << 10

// file reads a file of a process. more says that it is longer than maxRead.
func (t *Taker) file(pid int, name string) (text []byte, more bool, err error) {
	f, err := os.Open(t.name(pid, name))
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, maxRead+1))
	if len(text) > maxRead {
		return text[:maxRead], true, nil
	}
	return text, false, err
}
