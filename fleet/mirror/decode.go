package mirror

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/directory"
	"culprit/internal/event"
)

// Bounds of what a host sends. A document has the bound of package event, and a hit its packet beside that.
const (
	maxLine    = event.MaxDocument + 128<<10 // bytes
	maxAhead   = 24 * time.Hour              // of an id
	maxParents = 256
	maxCount   = 1 << 53 // what JSON's readers, and SQLite, can hold
)

// A refusal is why a document is not taken.
type refusal event.RefusedCode

func (r refusal) Error() string { return "refused: " + string(r) }

// decode reads one document of a host, which the stream took at that time. The host wrote it: what it says of
// anything but itself is not believed, and what other parts rely on is checked here.
func decode(host string, line []byte, taken time.Time) (any, error) {
	if len(line) > maxLine {
		return nil, refusal(event.RefusedLong)
	}
	var head struct {
		Event struct {
			ID     string `json:"id"`
			Action string `json:"action"`
		} `json:"event"`
		Host event.Host `json:"host"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, refusal(event.RefusedJSON)
	}
	if head.Host.Name != host {
		return nil, refusal(event.RefusedHost)
	}
	id, err := ulid.ParseStrict(head.Event.ID)
	if err != nil || id.String() != head.Event.ID || id.Timestamp().After(taken.Add(maxAhead)) {
		return nil, refusal(event.RefusedID)
	}
	of := &event.Host{Name: host}
	switch head.Event.Action {
	case event.ActionHit:
		return document(line, func(h *event.Hit) any {
			h.Host, h.Packet, h.Culprit.Raw = of, h.Culprit.Raw, nil
			h.Culprit.Count = min(max(h.Culprit.Count, 1), maxCount)
			h.Culprit.Proof, h.Culprit.Snapshot, h.Culprit.Answer = nil, nil, nil // documents of their own
			return h
		}, func(h *event.Hit) bool {
			for _, f := range h.Culprit.For() {
				if f.Process != nil && !short(*f.Process) || !known(&f.Reference) {
					return false
				}
			}
			return (h.Process == nil || short(*h.Process)) && short(h.Culprit.Origin.Processes...) && known(h.Culprit.Capture)
		})
	case event.ActionCapture:
		return document(line, func(c *event.Capture) any {
			of.Hostname, of.OS = head.Host.Hostname, head.Host.OS
			c.Host, c.Culprit.Config = of, ""
			return *c
		}, func(c *event.Capture) bool { return known(c.Culprit.FirstHit) })
	case event.ActionTrace:
		return document(line, func(t *event.Trace) any {
			t.Host, t.Culprit.Proofs, t.Culprit.Snapshot = of, nil, nil
			return *t
		}, func(t *event.Trace) bool {
			_, named, ok := directory.ParseName(filepath.Base(t.File.Path))
			return ok && named == id && short(t.Process) && known(&t.Culprit.Capture, t.Culprit.Hit)
		})
	case event.ActionProgram:
		return document(line, func(p *event.Program) any {
			p.Host = of
			return *p
		}, func(p *event.Program) bool {
			return short(p.Process) && known(&p.Culprit.Capture, p.Culprit.Trace)
		})
	case event.ActionProof:
		return document(line, func(p *event.Proof) any {
			p.Host = of
			return *p
		}, func(p *event.Proof) bool {
			return short(p.Process) && known(&p.Culprit.Capture, &p.Culprit.Hit, &p.Culprit.Trace)
		})
	case event.ActionSnapshot:
		return document(line, func(s *event.Snapshot) any {
			s.Host = of
			return *s
		}, func(s *event.Snapshot) bool {
			if kept := s.Culprit.KeptExecutable; kept != nil {
				if _, unfinished, ok := directory.IsExecutable(filepath.Base(kept.Path)); !ok || unfinished {
					return false
				}
			}
			return short(s.Process.Process) && known(&s.Culprit.Capture, s.Culprit.Hit, s.Culprit.Trace)
		})
	case event.ActionLoss:
		return document(line, func(l *event.Loss) any {
			l.Host, l.Culprit.Count = of, min(l.Culprit.Count, maxCount)
			return *l
		}, func(*event.Loss) bool { return true })
	}
	return nil, refusal(event.RefusedJSON)
}

// document decodes a document, checks it, and makes it the host's.
func document[T any](line []byte, own func(*T) any, good func(*T) bool) (any, error) {
	v := new(T)
	if err := json.Unmarshal(line, v); err != nil {
		return nil, refusal(event.RefusedJSON)
	}
	if !good(v) {
		return nil, refusal(event.RefusedID)
	}
	d := own(v)
	if _, err := json.Marshal(d); err != nil { // the catalogue relies on it
		return nil, refusal(event.RefusedJSON)
	}
	return d, nil
}

// known reports whether all that is named has an id.
func known(refs ...*event.Reference) bool {
	return !slices.ContainsFunc(refs, func(r *event.Reference) bool {
		if r == nil {
			return false
		}
		id, err := ulid.ParseStrict(r.ID)
		return err != nil || id.String() != r.ID
	})
}

// short reports whether processes have no more parents than culprit describes.
func short(processes ...event.Process) bool {
	return !slices.ContainsFunc(processes, func(p event.Process) bool {
		n := 0
		for at := p.Parent; at != nil; at = at.Parent {
			n++
		}
		return n > maxParents
	})
}
