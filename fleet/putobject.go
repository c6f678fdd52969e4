package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrFull says that a store takes no more.
var ErrFull = errors.New("it is full")

// full are the servers' error codes for it (server/errors.json): JSAccountResourcesExceeded, JSInsufficientResources,
// JSStorageResourcesExceeded, JSStreamStoreFailed.
var full = []jetstream.ErrorCode{10002, 10023, 10047, 10077}

// Bounds of [Conn.PutObject].
const (
	chunkBytes    = 128 << 10
	chunkTimeout  = 30 * time.Second // for the answer to one, over a slow line
	chunkOverhead = 512              // more than a server stores of each besides its bytes
)

// Room returns how many bytes an object store takes now, and how many an empty one would.
func (c *Conn) Room(ctx context.Context, bucket string) (left, most int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.JS.Stream(ctx, "OBJ_"+bucket)
	if err != nil {
		return 0, 0, fmt.Errorf("look into the store %s: %w", bucket, withoutStream(err))
	}
	info := s.CachedInfo()
	if most = info.Config.MaxBytes; most <= 0 {
		most = 1 << 62
	}
	return most - int64(info.State.Bytes), most, nil
}

// Stored is at most how many bytes of a store an object of so many bytes takes.
func Stored(size int64) int64 { return size + (size/chunkBytes+3)*chunkOverhead }

// PutObject writes an object that is not there yet to an object store (ADR-20 of NATS), or fails with [ErrFull]. It needs no
// right but to write, and waits for each chunk. That of nats.go asks the servers to purge what it could not finish, which hosts may
// not, and waits for their answer; here an empty message takes its place.
func (c *Conn) PutObject(ctx context.Context, bucket string, meta jetstream.ObjectMeta, r io.Reader) (err error) {
	info := jetstream.ObjectInfo{ObjectMeta: meta, Bucket: bucket, NUID: rand.Text()}
	chunk := make([]byte, min(chunkBytes, c.MaxPayload()))
	info.Opts = &jetstream.ObjectMetaOptions{ChunkSize: uint32(len(chunk))}
	chunks := "$O." + bucket + ".C." + info.NUID
	defer func() {
		if err != nil && info.Chunks > 0 {
			_ = c.rollup(context.WithoutCancel(ctx), chunks, nil, requestTimeout)
		}
		if err != nil {
			err = fmt.Errorf("put %s into the store %s: %w", meta.Name, bucket, err)
		}
	}()
	sum := sha256.New()
	for {
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			sum.Write(chunk[:n])
			if err := c.store(ctx, &nats.Msg{Subject: chunks, Data: chunk[:n]}, chunkTimeout); err != nil {
				return err
			}
			info.Size, info.Chunks = info.Size+uint64(n), info.Chunks+1
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	info.Digest = "SHA-256=" + base64.URLEncoding.EncodeToString(sum.Sum(nil))
	doc, _ := json.Marshal(info) // cannot fail
	return c.rollup(ctx, "$O."+bucket+".M."+base64.URLEncoding.EncodeToString([]byte(meta.Name)), doc, chunkTimeout)
}

// rollup stores a message in the place of all others of its subject.
func (c *Conn) rollup(ctx context.Context, subject string, doc []byte, wait time.Duration) error {
	m := &nats.Msg{Subject: subject, Data: doc, Header: nats.Header{}}
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	return c.store(ctx, m, wait)
}

func (c *Conn) store(ctx context.Context, m *nats.Msg, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, err := c.JS.PublishMsg(ctx, m)
	var api *jetstream.APIError
	if errors.As(err, &api) && slices.Contains(full, api.ErrorCode) {
		return fmt.Errorf("%w: %s", ErrFull, api.Description)
	}
	return withoutStream(err)
}
