package catalogue

import "fmt"

// Arrivals selects what came into the catalogue within a span, and puts it in the order in which it came. In the mirror of
// a fleet that is not the order of ids: each host makes ids by its own clock, and sends late what it could not send before.
// Hits, captures, proofs and losses know when they came.
type Arrivals struct {
	After int64 // the number of an arrival; 0: from the first
	UpTo  int64 // 0: all, in the order of ids
}

// Arrived returns the number of the latest arrival.
func (r *Reader) Arrived() (number int64, err error) {
	if err = r.db.QueryRowContext(r.ctx, "SELECT number FROM arrivals").Scan(&number); err != nil {
		return 0, fmt.Errorf("read the catalogue: %w", err)
	}
	return number, nil
}

// NextHits returns the part of a span in which so many hits came, or some more: those of one transaction are not torn apart.
func (r *Reader) NextHits(span Arrivals, most int) (Arrivals, error) {
	const q = "SELECT ifnull((SELECT arrived FROM hits WHERE arrived > ? AND arrived <= ? ORDER BY arrived LIMIT 1 OFFSET ?), ?)"
	if err := r.db.QueryRowContext(r.ctx, q, span.After, span.UpTo, most-1, span.UpTo).Scan(&span.UpTo); err != nil {
		return span, fmt.Errorf("read the catalogue: %w", err)
	}
	return span, nil
}
