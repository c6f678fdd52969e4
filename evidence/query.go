package evidence

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/internal/event"
)

// Reader reads an evidence directory, while a daemon writes to it and after.
type Reader struct {
	db *sql.DB
}

// OpenReader opens the catalogue in dir for reading. The caller closes it.
func OpenReader(dir string) (*Reader, error) {
	if _, err := os.Stat(filepath.Join(dir, catalogueName)); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("open the evidence in %s: %w: run as root", dir, err)
		}
		return nil, fmt.Errorf("open the evidence in %s: no catalogue is there: has culprit run with it? name another directory with --evidence or a configuration with -c", dir)
	}
	db, err := openCatalogue(dir, true)
	if err != nil {
		return nil, err
	}
	return &Reader{db}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.db.Close() }

// Filter says which documents are wanted. The zero Filter wants all.
type Filter struct {
	Since   time.Time
	UID     *uint32
	Rule    string
	Capture string // the capture's id
	Last    int    // only the last so many; 0: all

	id         string // only this one
	unfinished bool   // only what is running
}

// query builds the statement. Newest come last; ids sort by time.
func (f Filter) query(table, columns string) (string, []any) {
	where, args := []string{"1"}, []any{}
	add := func(cond string, arg any) {
		where = append(where, cond)
		args = append(args, arg)
	}
	if !f.Since.IsZero() {
		var first ulid.ULID
		if err := first.SetTime(ulid.Timestamp(f.Since)); err == nil {
			add("id >= ?", first.String())
		}
	}
	if f.id != "" {
		add("id = ?", f.id)
	}
	if f.UID != nil {
		add("uid = ?", *f.UID)
	}
	if f.Rule != "" {
		add("rule = ?", f.Rule)
	}
	if f.Capture != "" {
		column := "capture"
		if table == "captures" {
			column = "id"
		}
		add(column+" = ?", f.Capture)
	}
	if f.unfinished {
		where = append(where, "state IN ('"+event.StateRunning+"', '"+event.StateDraining+"')")
	}
	q := fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY id", columns, table, strings.Join(where, " AND "))
	if f.Last > 0 {
		q = fmt.Sprintf("SELECT * FROM (%s DESC LIMIT %d) ORDER BY id", q, f.Last)
	}
	return q, args
}

// Hits yields hits, oldest first, until there are no more or one error.
func (r *Reader) Hits(f Filter) iter.Seq2[event.Hit, error] {
	q, args := f.query("hits", "id, doc, count, packet")
	return rows(r.db, q, args, func(h *event.Hit, scan func(...any) error) error {
		var doc, id string
		var count int
		if err := scan(&id, &doc, &count, &h.Packet); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(doc), h)
		h.Culprit.Count = count
		return err
	})
}

// Captures yields captures, oldest first, until there are no more or one error.
func (r *Reader) Captures(f Filter) iter.Seq2[event.Capture, error] {
	q, args := f.query("captures", "id, doc")
	return rows(r.db, q, args, fromDocument[event.Capture])
}

// Traces yields traces, oldest first, until there are no more or one error.
func (r *Reader) Traces(f Filter) iter.Seq2[event.Trace, error] {
	q, args := f.query("traces", "id, doc")
	return rows(r.db, q, args, fromDocument[event.Trace])
}

// Programs yields programs in the order they were first seen, until there are no
// more or one error.
func (r *Reader) Programs(f Filter) iter.Seq2[event.Program, error] {
	q, args := f.query("programs", "id, doc")
	return rows(r.db, q, args, fromDocument[event.Program])
}

// Losses yields losses, oldest first, until there are no more or one error. Of
// the filter only Since and Last apply.
func (r *Reader) Losses(f Filter) iter.Seq2[event.Loss, error] {
	q, args := Filter{Since: f.Since, Last: f.Last}.query("losses", "id, doc")
	return rows(r.db, q, args, fromDocument[event.Loss])
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

// Find returns the one hit, capture or trace, as *[event.Hit], *[event.Capture] or
// *[event.Trace], whose id is, begins with, or ends with the given text.
func (r *Reader) Find(id string) (any, error) {
	id = strings.ToUpper(strings.TrimSpace(id))
	if id == "" || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return nil, fmt.Errorf("%q is not an id: take one from `culprit hits`, `captures` or `traces`", id)
	}
	const q = `SELECT 'hits', id FROM hits WHERE id LIKE ?1 OR id LIKE ?2
		UNION ALL SELECT 'captures', id FROM captures WHERE id LIKE ?1 OR id LIKE ?2
		UNION ALL SELECT 'traces', id FROM traces WHERE id LIKE ?1 OR id LIKE ?2 LIMIT 2`
	type match struct{ table, id string }
	var found []match
	for m, err := range rows(r.db, q, []any{id + "%", "%" + id}, func(m *match, scan func(...any) error) error {
		return scan(&m.table, &m.id)
	}) {
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no hit, capture or trace has the id %s", id)
	case 1:
	default:
		return nil, fmt.Errorf("more than one thing has an id with %s: give more of it", id)
	}
	switch m := found[0]; m.table {
	case "hits":
		return first(r.Hits(Filter{id: m.id}))
	case "captures":
		return first(r.Captures(Filter{id: m.id}))
	default:
		return first(r.Traces(Filter{id: m.id}))
	}
}

func first[T any](seq iter.Seq2[T, error]) (*T, error) {
	for v, err := range seq {
		return &v, err
	}
	return nil, errors.New("it has just gone from the catalogue")
}
