package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Whoever may make consumers can have messages delivered to any subject, also to that of another host. So hosts read by
// direct gets only (ADR-31 of NATS), which the servers answer to who asks.
//
// But a server does not check where an answer goes either. A host can ask for its own message, and let the answer go to the
// subject of another, where it is stored as if that had sent it: with the header Nats-Stream, which nobody can leave out. A
// direct get adds it once more.

// ErrNotFound says that there is no such message, key or object.
var ErrNotFound = errors.New("not found")

// ErrForged says that a message was put where it is by somebody who may not write there.
var ErrForged = errors.New("another host put it there by a trick: look for whoever has the credentials of a host, in the log of nats-server")

// Reflected reports whether a message as it is stored is the answer to somebody's request, see [ErrForged].
func Reflected(h nats.Header) bool { return len(h[headerStream]) > 0 }

// What servers add to the answer to a direct get (server/stream.go).
const (
	headerStream   = "Nats-Stream"
	headerSubject  = "Nats-Subject"
	headerSequence = "Nats-Sequence"
	headerTime     = "Nats-Time-Stamp"
	headerStatus   = "Status"
	headerText     = "Description"
)

// Last returns the last message of a subject in a stream, or [ErrNotFound], or with the message [ErrForged].
func (c *Conn) Last(ctx context.Context, stream, subject string) (*nats.Msg, error) {
	return c.get(ctx, stream, "."+subject, nil)
}

// Sequence returns the place in its stream of a message that was read.
func Sequence(m *nats.Msg) (uint64, error) {
	all := m.Header.Values(headerSequence)
	if len(all) == 0 {
		return 0, errors.New("the server did not say which message it sent")
	}
	return strconv.ParseUint(all[len(all)-1], 10, 64)
}

// A getRequest asks for a message (server/jetstream_api.go, JSApiMsgGetRequest).
type getRequest struct {
	Sequence uint64 `json:"seq,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
}

func (c *Conn) get(ctx context.Context, stream, subject string, request *getRequest) (*nats.Msg, error) {
	var body []byte
	if request != nil {
		body, _ = json.Marshal(request) // cannot fail
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := c.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+subject, body)
	if err == nil {
		err = status(m)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of the fleet: %w", stream, withoutStream(err))
	}
	if len(m.Header.Values(headerStream)) > 1 {
		return m, fmt.Errorf("read %s of the fleet: %w", stream, ErrForged)
	}
	return m, nil
}

// status returns the error that an answer is, if it is one.
func status(m *nats.Msg) error {
	switch code := m.Header.Get(headerStatus); code {
	case "":
		return nil
	case "404":
		return ErrNotFound
	default:
		return fmt.Errorf("the server says: %s %s", code, m.Header.Get(headerText))
	}
}

// withoutStream says what to do if there is nobody who answers.
func withoutStream(err error) error {
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("%w: the servers have no such stream, or no leader for it now; an operator makes it with culprit fleet init", err)
	}
	return explained(err)
}

// pageMessages is how many messages of a bucket are asked for at once.
const pageMessages = 512

// LastOfEach calls each with the message of each subject that a filter matches, such as $KV.culprit_sets.>, in a stream that keeps the last
// of each subject, as buckets do ([Conn.Setup]). It reads them page by page, in their order: one that gets a new message meanwhile comes later. (What
// NATS has for the last of many subjects, multi_last, refuses more than 1,024.) What others put there by a trick is left out. A key that was
// deleted is a message that [Deleted] knows.
func (c *Conn) LastOfEach(ctx context.Context, stream, filter string, each func(subject string, m *nats.Msg) error) error {
	failed := func(err error) error { return fmt.Errorf("read %s of the fleet: %w", stream, withoutStream(err)) }
	inbox := c.NewInbox()
	answers, err := c.SubscribeSync(inbox)
	if err != nil {
		return failed(err)
	}
	defer answers.Unsubscribe()
	for after := uint64(0); ; {
		body, _ := json.Marshal(getRequest{Sequence: after, NextFor: filter, Batch: pageMessages}) // cannot fail
		if err := c.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
			return failed(err)
		}
		for more := true; more; {
			waits, cancel := context.WithTimeout(ctx, requestTimeout)
			m, err := answers.NextMsgWithContext(waits)
			cancel()
			switch {
			case err != nil:
				return failed(err)
			case m.Header.Get(headerStatus) == "204": // no more in this answer
				if left := m.Header.Get("Nats-Num-Pending"); left == "0" || left == "" {
					return nil
				}
				more = false
			case m.Header.Get(headerStatus) == "404":
				return nil
			case m.Header.Get(headerStatus) != "":
				return failed(status(m))
			default:
				if after, err = Sequence(m); err != nil {
					return failed(err)
				}
				after++
				if subjects := m.Header.Values(headerSubject); len(subjects) == 1 {
					if err := each(subjects[0], m); err != nil {
						return err
					}
				}
			}
		}
	}
}

// Put writes the value of a key of a key-value bucket.
func (c *Conn) Put(ctx context.Context, bucket Bucket, key string, value []byte) error {
	_, err := c.put(ctx, bucket, key, value)
	return err
}

// Ask asks a host for the bundle of a capture. It returns the number of the request, see [Refusal].
func (c *Conn) Ask(ctx context.Context, host, capture string) (request uint64, err error) {
	body, _ := json.Marshal(map[string]time.Time{"time": time.Now()}) // cannot fail
	return c.put(ctx, c.Name.Requests(), RequestKey(host, capture), body)
}

func (c *Conn) put(ctx context.Context, bucket Bucket, key string, value []byte) (revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ack, err := c.JS.Publish(ctx, bucket.Subject(key), value)
	if err != nil {
		return 0, fmt.Errorf("write %s of %s of the fleet: %w", key, bucket, withoutStream(err))
	}
	return ack.Sequence, nil
}
