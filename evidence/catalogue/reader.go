package catalogue

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

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
	return &Reader{db: db, dir: dir, outside: true}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.db.Close() }

// Hits yields hits, oldest first, until there are no more or one error.
func (r *Reader) Hits(f Filter) iter.Seq2[event.Hit, error] {
	q, args := f.query("hits", "id, doc, count, packet, (SELECT doc FROM proofs WHERE hit = hits.id ORDER BY id LIMIT 1) AS proof")
	return rows(r.db, q, args, func(h *event.Hit, scan func(...any) error) error {
		var doc, id string
		var proof sql.NullString
		var count int
		if err := scan(&id, &doc, &count, &h.Packet, &proof); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(doc), h)
		h.Culprit.Count = count
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
	return rows(r.db, q, args, func(c *event.Capture, scan func(...any) error) error {
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
	if f.NoProofs {
		proofs = "'[]'"
	}
	q, args := f.query("traces", "id, doc, "+proofs+" AS proofs")
	return rows(r.db, q, args, func(t *event.Trace, scan func(...any) error) error {
		var id, doc, proofs string
		if err := scan(&id, &doc, &proofs); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(doc), t)
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
	return rows(r.db, q, args, func(p *event.Proof, scan func(...any) error) error {
		err := fromDocument(p, scan)
		p.File.Path = r.path(p.Culprit.Capture.ID, p.File.Path)
		return err
	})
}

// path returns where the file of a trace is now.
func (r *Reader) path(capture, path string) string {
	return filepath.Join(r.dir, directory.Traces, capture, filepath.Base(path))
}

// ForwardedBy yields the hits of packets in which local resolvers forwarded a hit's question.
func (r *Reader) ForwardedBy(h *event.Hit) iter.Seq2[event.Hit, error] {
	return func(yield func(event.Hit, error) bool) {
		if h.DNS == nil || h.Culprit.ForwardedFrom != nil {
			return
		}
		for by, err := range r.Forwards(h.Timestamp.Add(-time.Second), h.Timestamp.Add(time.Minute)) {
			if (err != nil || by.Culprit.ForwardedFrom.ID == h.Event.ID) && !yield(by, err) {
				return
			}
		}
	}
}

// Forwards yields the hits of packets in which local resolvers forwarded questions, from since
// until until, or to the end if until is zero.
func (r *Reader) Forwards(since, until time.Time) iter.Seq2[event.Hit, error] {
	return func(yield func(event.Hit, error) bool) {
		for h, err := range r.Hits(Filter{alone: true, Since: since, until: until}) {
			if (err != nil || h.Culprit.ForwardedFrom != nil) && !yield(h, err) {
				return
			}
		}
	}
}

// addProof adds a proof to its hit. The process of the proof wins over one that held the socket,
// which then comes first among the others.
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
	case holder.PID != p.Process.PID:
		o.Processes = append([]event.Process{*holder}, o.Processes...)
		o.Reason = &event.Unattributed{Code: event.UnattributedHolder, Detail: strconv.Itoa(holder.PID)}
		h.Process, h.Container = &p.Process, nil
	}
	o.Grade = event.GradeProof
	return nil
}

// Programs yields programs in the order they were first seen, until there are no
// more or one error.
func (r *Reader) Programs(f Filter) iter.Seq2[event.Program, error] {
	q, args := f.query("programs", "id, doc")
	return rows(r.db, q, args, fromDocument[event.Program])
}

// Losses yields losses, oldest first, until there are no more or one error. Only Since and Last
// of the filter count.
func (r *Reader) Losses(f Filter) iter.Seq2[event.Loss, error] {
	q, args := Filter{Since: f.Since, Last: f.Last}.query("losses", "id, doc")
	return rows(r.db, q, args, fromDocument[event.Loss])
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

// ids runs a query that yields ids.
func (r *Reader) ids(query string, args ...any) (map[string]bool, error) {
	ids := map[string]bool{}
	for id, err := range rows(r.db, query, args, func(id *string, scan func(...any) error) error { return scan(id) }) {
		if err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, nil
}

// All collects what a sequence yields. It returns the first error instead.
func All[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func fromDocument[T any](v *T, scan func(...any) error) error {
	var id, doc string
	if err := scan(&id, &doc); err != nil {
		return err
	}
	return json.Unmarshal([]byte(doc), v)
}

func rows[T any](db *sql.DB, query string, args []any, read func(*T, func(...any) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		fail := func(err error) {
			var zero T
			yield(zero, fmt.Errorf("read the catalogue: %w", err))
		}
		rs, err := db.Query(query, args...)
		if err != nil {
			fail(err)
			return
		}
		defer rs.Close()
		for rs.Next() {
			var v T
			if err := read(&v, rs.Scan); err != nil {
				fail(err)
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := rs.Err(); err != nil {
			fail(err)
		}
	}
}
