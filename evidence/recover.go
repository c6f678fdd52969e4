package evidence

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"culprit/internal/event"
)

// killed is why what markLost finds has ended.
const killed = "culprit was killed"

// markLost marks captures and traces that no daemon is running any more, and returns
// the captures.
func (s *Store) markLost() (lost []event.Capture, err error) {
	r := &Reader{db: s.db, dir: s.dir.Path()}
	batch := newBatch()
	for c, err := range r.Captures(Filter{unfinished: true}) {
		if err != nil {
			return nil, err
		}
		c.Culprit.State, c.Culprit.EndedBecause = event.StateLost, killed
		batch.add(c)
		lost = append(lost, c)
	}
	for t, err := range r.Traces(Filter{unfinished: true}) {
		if err != nil {
			return nil, err
		}
		t.Culprit.State, t.Culprit.EndedBecause, t.Culprit.Proofs = event.StateLost, killed, nil
		if size, err := s.dir.markPartial(t.File.Path, killed); err == nil {
			t.File.Size = size
		}
		batch.add(t)
	}
	if err := batch.write(s.writer); err != nil {
		return nil, err
	}
	return lost, s.adoptOrphans()
}

// adoptOrphans puts trace files into the catalogue whose daemon was killed before
// it could do that itself, and marks them.
func (s *Store) adoptOrphans() error {
	r := &Reader{db: s.db, dir: s.dir.Path()}
	known := map[string]bool{}
	for t, err := range r.Traces(Filter{}) {
		if err != nil {
			return err
		}
		known[t.Event.ID] = true
	}
	captures := map[string]event.Capture{}
	for c, err := range r.Captures(Filter{}) {
		if err != nil {
			return err
		}
		captures[c.Event.ID] = c
	}
	batch := newBatch()
	err := fs.WalkDir(s.dir.root.FS(), tracesDir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it is not there, or not ours
		}
		pid, id, ok := parseName(path.Base(name))
		if !ok || known[id.String()] {
			return nil
		}
		file := filepath.Join(s.dir.Path(), name)
		size, err := s.dir.markPartial(file, killed)
		if err != nil {
			return nil
		}
		c := captures[path.Base(path.Dir(name))]
		c.Event.ID = path.Base(path.Dir(name))
		start := id.Timestamp()
		batch.add(event.Trace{
			Timestamp: start,
			Event:     event.Meta{ID: id.String(), Kind: "event", Action: event.ActionTrace, Start: &start},
			Rule:      c.Rule, User: c.User,
			Process: event.Process{PID: pid},
			File:    event.File{Path: file, Size: size},
			Culprit: event.TraceDetail{
				Capture: event.Reference{ID: c.Event.ID}, Hit: c.Culprit.FirstHit,
				State: event.StateLost, EndedBecause: killed, Lost: 0,
			},
		})
		return nil
	})
	if err != nil {
		return err
	}
	return batch.write(s.writer)
}

// markPartial adds to a trace file that it is not complete, and returns its size.
func (d *Directory) markPartial(path, because string) (int64, error) {
	name, err := filepath.Rel(d.Path(), path)
	if err != nil {
		return 0, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fmt.Fprintf(f, "\n# ended: %s: this trace is partial\n", because)
	return f.Seek(0, 2)
}
