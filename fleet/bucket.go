package fleet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A Bucket is a key-value bucket: a stream whose subjects are its keys (ADR-8 of NATS).
type Bucket string

// Stream is the stream of the bucket.
func (b Bucket) Stream() string { return "KV_" + string(b) }

// Subject is that of a key, or of a pattern of keys.
func (b Bucket) Subject(key string) string { return "$KV." + string(b) + "." + key }

// Key is the inverse of [Bucket.Subject].
func (b Bucket) Key(subject string) string { return strings.TrimPrefix(subject, b.Subject("")) }

// Deleted reports whether the message of a key says that it has no value any more.
func Deleted(h nats.Header) bool { return h.Get("KV-Operation") != "" }

// settle is when to look again after somebody was heard: a server hands a message to who listens before it stores it (processInboundClientMsg
// and processInboundJetStreamMsg in nats-server), and a member of a cluster may store it later still.
var settle = []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second}

// Changes returns a channel that receives when somebody has written to a bucket, and again a few times after that, as who reads at once may
// not find it yet; until the context ends. It says no more: what it hears may be anybody's answer to anything.
func (c *Conn) Changes(ctx context.Context, b Bucket) (<-chan struct{}, error) {
	heard, news := make(chan struct{}, 1), make(chan struct{}, 1)
	s, err := c.Subscribe(b.Subject(">"), func(*nats.Msg) { ring(heard) })
	if err != nil {
		return nil, fmt.Errorf("listen to %s: %w", b, err)
	}
	go func() {
		defer func() { _ = s.Unsubscribe() }() // it fails if the connection is closed
		var again <-chan time.Time
		left := settle
		for {
			select {
			case <-heard:
				left = settle
			case <-again:
				left = left[1:]
			case <-ctx.Done():
				return
			}
			ring(news)
			again = nil
			if len(left) > 0 {
				again = time.After(left[0])
			}
		}
	}()
	return news, nil
}

// ring tells who waits, once for all that it was not told yet.
func ring(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
