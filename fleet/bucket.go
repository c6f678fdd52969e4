package fleet

import (
	"fmt"
	"strings"

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

// Changes returns a channel that receives when somebody has written to a bucket, until stop is called. It says no more: what it hears
// may be anybody's answer to anything.
func (c *Conn) Changes(b Bucket) (changed <-chan struct{}, stop func(), err error) {
	news := make(chan struct{}, 1)
	heard, err := c.Subscribe(b.Subject(">"), func(*nats.Msg) {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen to %s: %w", b, err)
	}
	return news, func() { _ = heard.Unsubscribe() }, nil // it fails if the connection is closed
}
