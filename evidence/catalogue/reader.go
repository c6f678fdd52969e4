package catalogue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"culprit/evidence/directory"
	"culprit/internal/event"
)

// Reader reads an evidence directory, while a daemon writes to it and after.
type Reader struct {
	db  *sql.DB
	dir string // where the evidence is now; it may have been moved or copied
	// outside says that the reader is not the daemon's own: what the catalogue calls running
	// may belong to a daemon that was killed.
	outside bool
	ctx     context.Context // that of Within
	// unproven says that traces come without their proofs.
	unproven bool
}

// OpenReader opens the catalogue in dir for reading. The caller closes it.
func OpenReader(dir string) (*Reader, error) {
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("open the evidence in %s: %w: run as root", dir, err)
		}
		return nil, fmt.Errorf("open the evidence in %s: there is no catalogue: has culprit run with it? name another directory with --evidence, or a configuration with -c", dir)
	}
	db, err := connect(dir, true)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		db.Close()
		return nil, err
	}
	return &Reader{db: db, dir: dir, outside: true, ctx: context.Background()}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.db.Close() }

// Within returns a reader of the same catalogue whose reading fails when the context ends: a search
// can take long. Only the first reader is closed.
func (r *Reader) Within(ctx context.Context) *Reader {
	within := *r
	within.ctx = ctx
	return &within
}

// WithoutProofs returns a reader of the same catalogue whose traces come without their proofs: a long one can have many.
// Only the first reader is closed.
func (r *Reader) WithoutProofs() *Reader {
	without := *r
	without.unproven = true
	return &without
}

// Hits yields hits, oldest first, until there are no more or one error.
func (r *Reader) Hits(f Filter) iter.Seq2[event.Hit, error] {
	q, args := r.planned(f).query("hits", "id, doc, count, packet, (SELECT doc FROM proofs WHERE hit = hits.id ORDER BY id LIMIT 1) AS proof, (SELECT id FROM snapshots WHERE hit = hits.id ORDER BY id LIMIT 1) AS snapshot")
	return rows(r, q, args, func(h *event.Hit, scan func(...any) error) error {
		var doc, id string
		var proof, snapshot sql.NullString
		var count int
		if err := scan(&id, &doc, &count, &h.Packet, &proof, &snapshot); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(doc), h)
		h.Culprit.Count = count
		h.Culprit.Snapshot = reference(snapshot)
		if proof.Valid && err == nil {
			err = addProof(h, proof.String)
		}
		return err
	})
}

// Captures yields captures, oldest first, until there are no more or one error.
func (r *Reader) Captures(f Filter) iter.Seq2[event.Capture, error] {
	q, args := f.query("captures", "id, doc")
	killed := r.killed()
	return rows(r, q, args, func(c *event.Capture, scan func(...any) error) error {
		err := fromDocument(c, scan)
		if d := &c.Culprit; (d.State == event.StateRunning || d.State == event.StateDraining) && killed() {
			d.State, d.EndedBecause = event.StateLost, endedKilled()
		}
		return err
	})
}

// killed returns a function that says whether the last daemon was killed. It looks on the first
// call only.
func (r *Reader) killed() func() bool {
	return sync.OnceValue(func() bool { return r.outside && directory.WasKilled(r.dir) })
}

// DaemonRuns reports whether a daemon may be writing to the evidence.
func (r *Reader) DaemonRuns() bool {
	if !r.outside {
		return true
	}
	pid, err := directory.Holder(r.dir)
	return err != nil || pid != 0
}

// Traces yields traces, oldest first, until there are no more or one error.
func (r *Reader) Traces(f Filter) iter.Seq2[event.Trace, error] {
	killed := r.killed()
	proofs := "(SELECT json_group_array(json_extract(doc, '$.culprit')) FROM proofs WHERE trace = traces.id)"
	if f.NoProofs || r.unproven {
		proofs = "'[]'"
	}
	q, args := f.query("traces", "id, doc, "+proofs+" AS proofs, (SELECT id FROM snapshots WHERE trace = traces.id ORDER BY id LIMIT 1) AS snapshot")
	return rows(r, q, args, func(t *event.Trace, scan func(...any) error) error {
		var id, doc, proofs string
		var snapshot sql.NullString
		if err := scan(&id, &doc, &proofs, &snapshot); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(doc), t)
		t.Culprit.Snapshot = reference(snapshot)
		t.File.Path = r.path(t.Culprit.Capture.ID, t.File.Path)
		if d := &t.Culprit; d.State == event.StateRunning && killed() {
			d.State, d.EndedBecause = event.StateLost, endedKilled()
		}
		if proofs != "[]" && err == nil {
			err = json.Unmarshal([]byte(proofs), &t.Culprit.Proofs)
		}
		return err
	})
}

// Proofs yields proofs in the order they were found, until there are no more or one
// error.
func (r *Reader) Proofs(f Filter) iter.Seq2[event.Proof, error] {
	q, args := f.query("proofs", "id, doc")
	return rows(r, q, args, func(p *event.Proof, scan func(...any) error) error {
		err := fromDocument(p, scan)
		p.File.Path = r.path(p.Culprit.Capture.ID, p.File.Path)
		return err
	})
}

// path returns where the file of a trace is now.
func (r *Reader) path(capture, path string) string {
	return filepath.Join(r.dir, directory.Traces, capture, filepath.Base(path))
}

// addProof adds a proof to its hit. The process of the proof wins over one that held the socket,
// which then comes first among the others; one that the kernel saw stays.
func addProof(h *event.Hit, doc string) error {
	var p event.Proof
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return err
	}
	h.Culprit.Proof = &p.Culprit
	if p.Culprit.Probable {
		return nil
	}
	o := &h.Culprit.Origin
	holder := h.Process
	switch {
	case holder == nil: // the origin has only guesses
		*o = event.Origin{}
		h.Process = &p.Process
	case h.Culprit.Sent != nil: // the kernel saw this process send it
		if holder.Executable == "" && holder.EntityID != "" && holder.EntityID == p.Process.EntityID { // it had ended by then
			h.Process = &p.Process
		}
	case holder.PID != p.Process.PID:
		o.Processes = append([]event.Process{*holder}, o.Processes...)
		o.Reason = &event.Unattributed{Code: event.UnattributedHolder, Detail: strconv.Itoa(holder.PID)}
		h.Process, h.Place = &p.Process, event.Place{}
		if h.User != nil {
			h.User.Inside = event.Inside{} // as the holder's container knows him
		}
	}
	o.Grade = event.GradeProof
	return nil
}

// Programs yields programs in the order they were first seen, until there are no
// more or one error.
func (r *Reader) Programs(f Filter) iter.Seq2[event.Program, error] {
	q, args := f.query("programs", "id, doc")
	return rows(r, q, args, fromDocument[event.Program])
}

// Snapshots yields snapshots, oldest first, until there are no more or one error.
func (r *Reader) Snapshots(f Filter) iter.Seq2[event.Snapshot, error] {
	q, args := f.query("snapshots", "id, doc")
	return rows(r, q, args, func(s *event.Snapshot, scan func(...any) error) error {
		err := fromDocument(s, scan)
		if kept := s.Culprit.KeptExecutable; kept != nil {
			kept.Path = filepath.Join(r.dir, directory.Executables, filepath.Base(kept.Path))
		}
		return err
	})
}

// Snapshot returns the snapshot with an id, or nil if it is not there any more.
func (r *Reader) Snapshot(id string) (*event.Snapshot, error) {
	for s, err := range r.Snapshots(Filter{id: id}) {
		return &s, err
	}
	return nil, nil
}

// Executables returns the kept executables that snapshots name, by their SHA-256.
func (r *Reader) Executables() (map[string]Executable, error) {
	const q = `SELECT executable, max(id), max(EXISTS (SELECT 1 FROM proofs WHERE proofs.hit = snapshots.hit OR proofs.trace = snapshots.trace))
		FROM snapshots WHERE executable IS NOT NULL GROUP BY executable`
	all := map[string]Executable{}
	type row struct {
		sha256 string
		Executable
	}
	for one, err := range rows(r, q, nil, func(o *row, scan func(...any) error) error {
		return scan(&o.sha256, &o.Snapshot, &o.Proven)
	}) {
		if err != nil {
			return nil, err
		}
		all[one.sha256] = one.Executable
	}
	return all, nil
}

// An Executable is one of which there is a copy.
type Executable struct {
	Snapshot string // the id of the latest that names it
	Proven   bool   // the hit or the trace of one of its snapshots has a proof
}

func reference(id sql.NullString) *event.Reference {
	if !id.Valid {
		return nil
	}
	return &event.Reference{ID: id.String}
}

// Losses yields losses, oldest first, until there are no more or one error. Only Since, Last, Host and
// Arrived of the filter count.
func (r *Reader) Losses(f Filter) iter.Seq2[event.Loss, error] {
	q, args := Filter{Since: f.Since, Last: f.Last, Host: f.Host, Arrived: f.Arrived}.query("losses", "id, doc")
	return rows(r, q, args, fromDocument[event.Loss])
}

// RunningCaptures returns the ids of the captures that run.
func (r *Reader) RunningCaptures() (map[string]bool, error) {
	return r.ids("SELECT id FROM captures WHERE " + unfinishedStates)
}

// ClosedTraces returns the ids of those traces of a capture that are no longer written.
func (r *Reader) ClosedTraces(capture string) (map[string]bool, error) {
	return r.ids("SELECT id FROM traces WHERE capture = ? AND NOT "+unfinishedStates, capture)
}

// Proven returns the ids of the traces and captures that have a proof.
func (r *Reader) Proven() (map[string]bool, error) {
	return r.ids("SELECT trace FROM proofs UNION SELECT capture FROM proofs")
}
