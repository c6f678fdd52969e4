package fleet

import (
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
