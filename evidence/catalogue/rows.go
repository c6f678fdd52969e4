package catalogue

import (
	"encoding/json"
	"fmt"
	"iter"
)

// ids runs a query that yields ids.
func (r *Reader) ids(query string, args ...any) (map[string]bool, error) {
	ids := map[string]bool{}
	for id, err := range rows(r, query, args, func(id *string, scan func(...any) error) error { return scan(id) }) {
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

func rows[T any](r *Reader, query string, args []any, read func(*T, func(...any) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		fail := func(err error) {
			var zero T
			yield(zero, fmt.Errorf("read the catalogue: %w", err))
		}
		rs, err := r.db.QueryContext(r.ctx, query, args...)
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
