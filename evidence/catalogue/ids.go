package catalogue

import (
	"fmt"
)

// RunningCaptures are the ids of the captures that are running.
func (r *Reader) RunningCaptures() (map[string]bool, error) {
	return r.ids("SELECT id FROM captures WHERE " + unfinishedStates)
}

// ClosedTraces are the ids of the traces of a capture that nobody writes to any more.
func (r *Reader) ClosedTraces(capture string) (map[string]bool, error) {
	return r.ids("SELECT id FROM traces WHERE capture = ? AND NOT "+unfinishedStates, capture)
}

// Proven are the ids of the traces and captures that have a proof.
func (r *Reader) Proven() (map[string]bool, error) {
	return r.ids("SELECT trace FROM proofs UNION SELECT capture FROM proofs")
}

// ids returns the ids that a query yields.
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

// Size is how many bytes the catalogue uses, without the events that wait to be
// sent out, which have a bound of their own. Its file may be larger: it does not shrink,
// but what is free in it is used again.
func (r *Reader) Size() (size int64, err error) {
	const query = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
	if err := r.db.QueryRow(query).Scan(&size); err != nil {
		return 0, fmt.Errorf("ask for the size of the catalogue: %w", err)
	}
	var waiting, events int64
	if err := r.db.QueryRow(waitingSize).Scan(&waiting, &events); err != nil {
		return 0, fmt.Errorf("ask for the size of the events that wait: %w", err)
	}
	return max(0, size-events), nil
}
