package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// RemoveLeftovers removes what interrupted uploads have left in a store, if nobody has gone on with them for some time, but not that of an id. The
// name is that of the object of an id. What others have put there stays. It returns how many it has removed.
func (c *Conn) RemoveLeftovers(ctx context.Context, bucket, but string, name func(id string) string, after time.Duration) (n int, err error) {
	failed := func(err error) (int, error) {
		return n, fmt.Errorf("remove unfinished uploads from the store %s: %w", bucket, withoutStream(err))
	}
	asks, cancel := context.WithTimeout(ctx, chunkTimeout)
	defer cancel()
	s, err := c.JS.Stream(asks, "OBJ_"+bucket)
	if err != nil {
		return failed(err)
	}
	info, err := s.Info(asks, jetstream.WithSubjectFilter(chunksOf(bucket, "*")))
	if err != nil {
		return failed(err)
	}
	for subject := range info.State.Subjects {
		id := subject[len(chunksOf(bucket, "")):]
		if id == but {
			continue
		}
		o, err := c.Find(ctx, bucket, name(id))
		if err == nil && o.ID == id {
			continue
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return failed(err)
		}
		// Without a description. If it is not ours it has no such header, nor has what we have removed.
		m, err := c.Last(ctx, "OBJ_"+bucket, subject)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrForged) {
			continue
		}
		if err != nil {
			return failed(err)
		}
		stored, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerTime))
		if m.Header.Get(headerUpload) == "" || err != nil || time.Since(stored) < after {
			continue
		}
		err = c.rollup(ctx, subject, nil, requestTimeout)
		if errors.Is(err, ErrFull) { // not even the mark that would take its place
			return n, nil
		}
		if err != nil {
			return failed(err)
		}
		n++
	}
	return n, nil
}
