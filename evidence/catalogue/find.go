package catalogue

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/oklog/ulid/v2"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// Found is what an id names. One of the fields is set, the others are nil.
type Found struct {
	Hit     *event.Hit
	Capture *event.Capture
	Trace   *event.Trace
	// Snapshot is what a process was when it sent a packet.
	Snapshot *event.Snapshot
}

// Document returns what was found, for encoding as JSON; nil if nothing was.
func (f Found) Document() any {
	switch {
	case f.Hit != nil:
		return f.Hit
	case f.Capture != nil:
		return f.Capture
	case f.Trace != nil:
		return f.Trace
	case f.Snapshot != nil:
		return f.Snapshot
	}
	return nil
}

// ErrUnknown says that a text is not the id of one thing in the catalogue.
var ErrUnknown = errors.New("unknown id")

// unknown is [ErrUnknown] in words.
type unknown string

func (u unknown) Error() string { return string(u) }

func (unknown) Is(err error) bool { return err == ErrUnknown }

// Find returns the one hit, capture, trace or snapshot whose id is, begins with, or ends with the
// given text, or [ErrUnknown].
func (r *Reader) Find(id string) (f Found, err error) {
	id = strings.ToUpper(strings.TrimSpace(id))
	if id == "" || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return f, unknown(fmt.Sprintf("%q is not an id: take one from `culprit hits`, `captures` or `traces`", id))
	}
	found, err := r.named("id >= ?1 AND id < ?2", id, id+"~")
	if err == nil && len(found) == 0 && len(id) < ulid.EncodedSize {
		// This has to look at every id, if in an index only.
		found, err = r.named("id LIKE ?1", "%"+id)
	}
	if err != nil {
		return f, err
	}
	switch len(found) {
	case 0:
		return f, unknown("no hit, capture, trace or snapshot has the id " + id)
	case 1:
	default:
		return f, unknown(fmt.Sprintf("more than one id begins or ends with %s: give more of it", id))
	}
	switch m := found[0]; m.table {
	case "hits":
		f.Hit, err = first(r.Hits(Filter{id: m.id}))
	case "captures":
		f.Capture, err = first(r.Captures(Filter{id: m.id}))
	case "snapshots":
		f.Snapshot, err = first(r.Snapshots(Filter{id: m.id}))
	default:
		f.Trace, err = first(r.Traces(Filter{id: m.id}))
	}
	return f, err
}

// CaptureOf returns the capture with an id, or that of the hit, trace or snapshot with the id.
func (r *Reader) CaptureOf(id string) (*event.Capture, error) {
	f, err := r.Find(id)
	switch {
	case err != nil:
		return nil, err
	case f.Capture != nil:
		return f.Capture, nil
	case f.Trace != nil:
		id = f.Trace.Culprit.Capture.ID
	case f.Snapshot != nil:
		id = f.Snapshot.Culprit.Capture.ID
	case f.Hit.Culprit.Capture == nil:
		return nil, fmt.Errorf("hit %s has no capture: %s", f.Hit.Event.ID, text.Escape(words.NoCapture(f.Hit.Culprit.NoCapture)))
	default:
		id = f.Hit.Culprit.Capture.ID
	}
	if f, err := r.Find(id); err == nil && f.Capture != nil {
		return f.Capture, nil
	}
	return nil, fmt.Errorf("the capture %s is not in the catalogue any more", id)
}

// known names a document.
type known struct{ table, id string }

// named finds at most two hits, captures, traces or snapshots.
func (r *Reader) named(where string, args ...any) (found []known, err error) {
	const q = `SELECT 'hits', id FROM hits WHERE %[1]s UNION ALL SELECT 'captures', id FROM captures WHERE %[1]s
		UNION ALL SELECT 'traces', id FROM traces WHERE %[1]s UNION ALL SELECT 'snapshots', id FROM snapshots WHERE %[1]s LIMIT 2`
	for k, err := range rows(r, fmt.Sprintf(q, where), args, func(k *known, scan func(...any) error) error {
		return scan(&k.table, &k.id)
	}) {
		if err != nil {
			return nil, err
		}
		found = append(found, k)
	}
	return found, nil
}

func first[T any](seq iter.Seq2[T, error]) (*T, error) {
	for v, err := range seq {
		return &v, err
	}
	return nil, errors.New("it was just removed from the catalogue")
}

// Lists counts the hits of each list of domains, by its path.
func (r *Reader) Lists() (map[string]int, error) {
	return r.counts("SELECT doc ->> '$.culprit.listed.file' AS file, count(*) FROM hits WHERE file IS NOT NULL GROUP BY file")
}

// Rules are the names of the rules that hits, captures or traces in the catalogue are of.
func (r *Reader) Rules() (names []string, err error) {
	const q = "SELECT rule FROM hits WHERE rule IS NOT NULL UNION SELECT rule FROM captures WHERE rule IS NOT NULL UNION SELECT rule FROM traces WHERE rule IS NOT NULL ORDER BY rule"
	for name, err := range rows(r, q, nil, func(name *string, scan func(...any) error) error { return scan(name) }) {
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
