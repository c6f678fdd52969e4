package capture

import (
	"slices"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// maxExamples bounds the missed processes that a capture describes, maxMissed those that
// it remembers, to count each only once.
const (
	maxExamples = 20
	maxMissed   = 10_000
)

// missed remembers the processes that were found and are not traced, and why.
type missed struct {
	counted map[proc.ID]event.UntracedCode
	logged  map[event.UntracedCode]bool
}

// has reports whether the process was counted.
func (m *missed) has(id proc.ID) bool {
	_, counted := m.counted[id]
	return counted
}

// miss counts a process that is not traced, once. It reports whether it is the first that
// is missed for this reason.
func (cam *campaign) miss(id proc.ID, m event.Missed) (first bool) {
	code := m.Reason.Code
	if p := cam.programs.of(id); p != nil {
		p.doc.Culprit.Reason = &m.Reason
	}
	if cam.missed.has(id) {
		return false
	}
	if len(cam.missed.counted) < maxMissed {
		cam.missed.counted[id] = code
	}
	cam.dirty = true
	d := &cam.doc.Culprit
	d.Missed[code]++
	if len(d.Examples) < maxExamples {
		d.Examples = append(d.Examples, m)
	}
	first = !cam.missed.logged[code] // the count may have been 0 again since
	cam.missed.logged[code] = true
	return first
}

// unmiss takes back that a process was missed, as it is traced now.
func (cam *campaign) unmiss(id proc.ID) {
	code, counted := cam.missed.counted[id]
	if !counted {
		return
	}
	delete(cam.missed.counted, id)
	d := &cam.doc.Culprit
	if d.Missed[code]--; d.Missed[code] == 0 {
		delete(d.Missed, code)
	}
	d.Examples = slices.DeleteFunc(d.Examples, func(m event.Missed) bool { return m.PID == id.PID })
}
