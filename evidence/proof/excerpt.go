package proof

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// Bounds of an excerpt.
const (
	maxText    = 4 << 10 // bytes of a line
	maxNear    = 1000    // lines before the proof, and after it
	maxEarlier = 16      // telling lines of the thread before these
	maxForks   = 1 << 16 // threads and children that are remembered
	maxExecs   = 1 << 10 // execve lines of other threads that are remembered
	maxDepth   = 16      // ancestors
	lateForks  = 1000    // lines after the proof in which its thread's fork may still return
)

// Story is a proof's lines, among those that explain them.
type Story struct {
	// Forks says how the thread began, the latest fork first: who forked it, who forked that, and
	// so on, as far as the trace shows it.
	Forks []Fork
	// Lines are in the order of the trace: the execve lines of the thread and of its
	// ancestors, files it opened, connections and forks it made, its lines right before and
	// after the proof, and the earlier parts of the packet.
	Lines []Line
}

// Fork is a clone, clone3, fork or vfork.
type Fork struct {
	TID, Parent int
	Line        int64 // where the call returned, from 1
}

// Line is a line of a trace.
type Line struct {
	Number int64  // from 1
	TID    int    // whose line it is
	Text   string // without the newline, and only the first 4 KiB
	Cut    int64  // how many bytes Text lacks
	Proof  bool   // it sent the packet, or a part of it
	Gap    bool   // lines of the proof's thread are left out before it

	nth int64 // of its thread's lines, from 1; ancestors' are not counted
}

// Excerpt reads a trace up to the line of a proof. It returns that line and the earlier parts of the
// packet, others that explain them, and the nearest lines of the same thread, that many before and
// after it (at most 1000). The traced program chose the text: escape it.
func Excerpt(r io.Reader, p event.ProofDetail, before, after int) (Story, error) {
	e := excerpt{tid: p.TID, forks: make(map[int]Fork), execs: make(map[int]Line)}
	e.before, e.after = int64(min(max(before, 0), maxNear)), int64(min(max(after, 0), maxNear))
	for _, part := range p.Parts[:min(len(p.Parts), maxJoin)] {
		e.of = append(e.of, part.Line)
	}
	if err := e.read(r, p.Line); err != nil {
		return Story{}, fmt.Errorf("read line %d of a trace: %w", p.Line, err)
	}
	return e.story(), nil
}

type excerpt struct {
	tid           int
	before, after int64
	of            []int64      // the numbers of the earlier parts
	parts         []Line       // these lines
	forks         map[int]Fork // by the new TID
	execs         map[int]Line // the last of each TID
	earlier       []Line
	near          []Line // right before the proof, it, and after it
	nth           int64  // lines of the thread so far
	proof         int64  // which of them is the proof, 0 before it
}

func (e *excerpt) read(r io.Reader, proof int64) error {
	lines := strace.NewLines(maxText)
	count := int64(0)
	for text, err := range lines.All(r) {
		if err != nil {
			return err
		}
		count++
		text = text[:min(len(text), maxText)]
		e.line(text, Line{Number: count, Cut: lines.Length() - int64(len(text)), Proof: count == proof || slices.Contains(e.of, count)}, count == proof)
		if count == proof && e.proof == 0 {
			return fmt.Errorf("it is not one of thread %d", e.tid)
		}
		_, forked := e.forks[e.tid]
		if e.proof > 0 && e.nth >= e.proof+e.after && (forked || count >= proof+lateForks) {
			return nil
		}
	}
	if e.proof == 0 {
		return fmt.Errorf("there are only %d", count)
	}
	return nil
}

// line reads a line; own says that it is the proof's own.
func (e *excerpt) line(line []byte, l Line, own bool) {
	tid, _, text := strace.ParseLine(line)
	if text == nil {
		return
	}
	l.TID = tid
	if l.TID == e.tid {
		e.nth++
		l.nth = e.nth
		if own {
			e.proof = e.nth
		}
	}
	if l.Proof && !own {
		e.parts = append(e.parts, l.with(line))
	}
	switch string(text.Name()) {
	case "clone", "clone3", "fork", "vfork":
		e.forked(Fork{TID: int(text.Returned()), Parent: l.TID, Line: l.Number})
	case "execve", "execveat":
		_, known := e.execs[l.TID]
		returned := text.Returned()
		// An unfinished one counts, as its other line has no arguments.
		if e.proof == 0 && text.Kind() == strace.KindCall && (returned == 0 || returned == strace.Unknown) &&
			(known || l.TID == e.tid || len(e.execs) < maxExecs) {
			e.execs[l.TID] = l.with(line)
		}
	}
	if l.TID != e.tid || e.proof > 0 && e.nth > e.proof+e.after {
		return
	}
	e.near = append(e.near, l.with(line))
	if e.proof == 0 && int64(len(e.near)) > e.before {
		e.remember(e.near[0])
		e.near = e.near[1:]
	}
}

// forked remembers a fork. That of the thread itself may return after the proof.
func (e *excerpt) forked(f Fork) {
	_, known := e.forks[f.TID]
	switch {
	case f.TID <= 0:
	case f.TID == e.tid && (e.proof == 0 || !known), e.proof == 0 && (known || len(e.forks) < maxForks):
		e.forks[f.TID] = f
	}
}

// remember keeps a line from before the nearest ones, if it is telling.
func (e *excerpt) remember(l Line) {
	if !telling([]byte(l.Text)) {
		return
	}
	if len(e.earlier) == maxEarlier {
		e.earlier = slices.Delete(e.earlier, 0, 1)
	}
	e.earlier = append(e.earlier, l)
}

func (l Line) with(text []byte) Line {
	l.Text = string(text)
	return l
}

// telling reports whether a line shows what the thread does: it opens a file that is neither a
// library nor a directory, connects or forks, and does not fail.
func telling(line []byte) bool {
	_, _, text := strace.ParseLine(line)
	if text == nil {
		return false
	}
	switch string(text.Name()) {
	case "openat", "open":
		return text.Returned() >= 0 && !slices.ContainsFunc(dull, func(part string) bool { return bytes.Contains(text, []byte(part)) })
	case "connect", "clone", "clone3", "fork", "vfork":
		return text.Returned() != strace.Failed
	}
	return false
}

// dull are parts of what programs open before they get to work: libraries, directories, files that
// are the same on every machine, their own configuration.
var dull = []string{".so", "O_DIRECTORY", `"/usr/share/`, `"/usr/lib/`, `"/lib/`, `"/sys/`, `"/etc/php`, `"/etc/ssl`, ".ini\"", ".pyc", `"/etc/ld.`}

// story puts the excerpt together.
func (e *excerpt) story() Story {
	var s Story
	lines := append(e.earlier, e.near...)
	insert := func(l Line) {
		if !slices.ContainsFunc(lines, func(o Line) bool { return o.Number == l.Number }) {
			lines = append(lines, l)
		}
	}
	add := func(tid int) {
		if l, ok := e.execs[tid]; ok {
			insert(l)
		}
	}
	for _, l := range e.parts {
		insert(l)
	}
	add(e.tid)
	for at := e.tid; len(s.Forks) < maxDepth; {
		f, ok := e.forks[at]
		if !ok {
			break
		}
		s.Forks = append(s.Forks, f)
		add(f.Parent)
		at = f.Parent
	}
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Compare(a.Number, b.Number) })
	var nth int64
	for i := range lines {
		l := &lines[i]
		if l.TID == e.tid {
			l.Gap = l.nth != nth+1
			nth = l.nth
		}
	}
	s.Lines = lines
	return s
}
