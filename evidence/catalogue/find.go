package catalogue

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/oklog/ulid/v2"
)

// Find returns the one hit, capture or trace, as *[event.Hit], *[event.Capture] or
// *[event.Trace], whose id is, begins with, or ends with the given text.
func (r *Reader) Find(id string) (any, error) {
	id = strings.ToUpper(strings.TrimSpace(id))
	if id == "" || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return nil, fmt.Errorf("%q is not an id: take one from `culprit hits`, `captures` or `traces`", id)
	}
	found, err := r.named("id >= ?1 AND id < ?2", id, id+"~")
	if err == nil && len(found) == 0 && len(id) < ulid.EncodedSize {
		// This has to look at every id, if in an index only.
		found, err = r.named("id LIKE ?1", "%"+id)
	}
	if err != nil {
		return nil, err
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

// known names a document.
type known struct{ table, id string }

// named finds two hits, captures or traces at most.
func (r *Reader) named(where string, args ...any) (found []known, err error) {
	const q = `SELECT 'hits', id FROM hits WHERE %[1]s UNION ALL SELECT 'captures', id FROM captures WHERE %[1]s
		UNION ALL SELECT 'traces', id FROM traces WHERE %[1]s LIMIT 2`
	for k, err := range rows(r.db, fmt.Sprintf(q, where), args, func(k *known, scan func(...any) error) error {
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
	return nil, errors.New("it has just gone from the catalogue")
}
