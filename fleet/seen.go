package fleet

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Seen is which message of each subject of a stream was read last. Every member of a cluster answers who reads, also one that is behind
// another that answered before.
type Seen map[string]place

type place struct {
	sequence uint64
	stored   time.Time
}

// Compare returns 1 if a message is newer than the one of its subject that was read last, which it is from now on; 0 if it is that; -1 if it is
// older. A stream that was made anew has lower numbers, and later times.
func (s Seen) Compare(subject string, m *nats.Msg) (int, error) {
	var now place
	var err error
	if now.sequence, err = Sequence(m); err != nil {
		return 0, err
	}
	stamps := m.Header.Values(headerTime) // whoever wrote the message may have given it one, too
	if len(stamps) > 0 {
		now.stored, err = time.Parse(time.RFC3339Nano, stamps[len(stamps)-1])
	}
	if err != nil || len(stamps) == 0 {
		return 0, fmt.Errorf("the server did not say when the message was stored that it sent: %q", stamps)
	}
	was, known := s[subject]
	switch {
	case known && now.sequence == was.sequence && now.stored.Equal(was.stored):
		return 0, nil
	case known && now.sequence <= was.sequence && !now.stored.After(was.stored):
		return -1, nil
	}
	s[subject] = now
	return 1, nil
}
