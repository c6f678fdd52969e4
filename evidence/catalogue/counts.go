package catalogue

import (
	"fmt"
	"time"
)

// Counts returns how many hits came in each of n equal parts of the time from since until until.
// Of a filter with a place, a list or a name it has to read every document, unless the indices of a mirror find few.
func (r *Reader) Counts(f Filter, since, until time.Time, n int) ([]int, error) {
	f = r.planned(f)
	f.Last = 0
	counts := make([]int, n)
	span := until.Sub(since)
	if f.few() {
		f.Since, f.until = since, until
		q, args := f.query("hits", "id")
		for at, err := range rows(r, q, args, func(at *time.Time, scan func(...any) error) (err error) {
			var id string
			if err = scan(&id); err == nil {
				*at, err = idTime(id)
			}
			return err
		}) {
			if err != nil {
				return nil, err
			}
			part := int(float64(at.Sub(since)) / float64(span) * float64(n))
			counts[min(max(part, 0), n-1)]++
		}
		return counts, nil
	}
	// A million rows are counted by SQLite ten times as fast as here.
	f.until = since
	for i := range counts {
		if f.Since, f.until = f.until, f.until.Add(span/time.Duration(n)); i == n-1 {
			f.until = until
		}
		q, args := f.query("hits", "1")
		if err := r.db.QueryRowContext(r.ctx, "SELECT count(*) FROM ("+q+")", args...).Scan(&counts[i]); err != nil {
			return nil, fmt.Errorf("count hits: %w", err)
		}
	}
	return counts, nil
}

// counts reads rows of a name and a number.
func (r *Reader) counts(query string, args ...any) (map[string]int, error) {
	type count struct {
		name string
		n    int
	}
	all := map[string]int{}
	for one, err := range rows(r, query, args, func(c *count, scan func(...any) error) error { return scan(&c.name, &c.n) }) {
		if err != nil {
			return nil, err
		}
		all[one.name] = one.n
	}
	return all, nil
}
