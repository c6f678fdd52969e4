package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrFull says that a store takes no more.
var ErrFull = errors.New("it is full")

// full are the servers' error codes for it (server/errors.json): JSAccountResourcesExceeded, JSInsufficientResources,
// JSStorageResourcesExceeded, JSStreamStoreFailed.
var full = []jetstream.ErrorCode{10002, 10023, 10047, 10077}

// Bounds of an [Upload].
const (
	chunkBytes    = 128 << 10
	chunkTimeout  = 30 * time.Second // for the answer to one, over a slow line
	chunkOverhead = 512              // more than a server stores of each besides its bytes
	uploadAgain   = time.Second      // after a failure
	uploadStalls  = 2 * time.Minute  // without any chunk that was stored
	maxBegins     = 3                // of one upload, because something else came into its place
)

// What each chunk says of the upload that it is of, so that this can go on after it.
const (
	headerUpload = "Culprit-Upload" // the SHA-256 of all its bytes
	headerEnd    = "Culprit-End"    // where in them the next chunk begins
	headerChunk  = "Culprit-Chunk"  // how many chunks there are with this one
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

// An Upload puts an object into an object store (ADR-20 of NATS), and goes on where an earlier one of the same bytes was interrupted, by
// whatever. It needs no right but to write and read there. That of nats.go asks the servers to purge what it could not finish, which hosts
// may not; here other bytes of the same id take its place, or at last [Conn.RemoveLeftovers].
type Upload struct {
	conn        *Conn
	bucket, id  string
	content     io.ReaderAt
	size        int64
	sum, digest string

	at     int64  // bytes that are stored
	chunks uint32 // that have them
	last   uint64 // the place of the last message of the chunks, 0: there is none
	begins int
}

// Upload begins to put content into a store: it reads it once, and looks what of it is there. The id names its chunks: what is to be gone
// on with has the same.
func (c *Conn) Upload(ctx context.Context, bucket, id string, content io.ReaderAt, size int64) (*Upload, error) {
	u := &Upload{conn: c, bucket: bucket, id: id, content: content, size: size}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(content, 0, size)); err != nil {
		return nil, u.failed(err)
	}
	u.sum, u.digest = fmt.Sprintf("%x", sum.Sum(nil)), Digest(sum)
	if err := u.look(ctx); err != nil {
		return nil, u.failed(err)
	}
	if u.at == 0 && u.last > 0 { // of other bytes: they would take the room of these
		if err := u.clear(ctx); err != nil {
			return nil, u.failed(err)
		}
	}
	return u, nil
}

func (u *Upload) failed(err error) error {
	return fmt.Errorf("put %s into the store %s: %w", u.id, u.bucket, err)
}

// There returns how many bytes the store has already.
func (u *Upload) There() int64 { return u.at }

// Put puts the rest into the store, and then the object under its name. It waits for servers that are away. It fails with [ErrFull] if they take no
// more, and then leaves nothing there.
func (u *Upload) Put(ctx context.Context, meta jetstream.ObjectMeta) error {
	chunk := make([]byte, min(chunkBytes, max(chunkOverhead, u.conn.MaxPayload()-headerBytes)))
	for progress := time.Now(); ; {
		err := u.next(ctx, chunk, meta)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil:
			progress = time.Now()
			continue
		case errors.Is(err, ErrFull):
			_ = u.clear(context.WithoutCancel(ctx)) // else it is removed when there is no room
			return u.failed(err)
		case time.Since(progress) > uploadStalls || u.begins > maxBegins || errors.As(err, new(localError)):
			return u.failed(err)
		}
		select {
		case <-time.After(uploadAgain):
		case <-ctx.Done():
			return u.failed(ctx.Err())
		}
		_ = u.look(ctx) // what was stored though nobody said so; if it fails, so does what comes next
	}
}

// localError is one of this machine, not of the servers.
type localError struct{ error }

// next stores a chunk, or at last the description; then it returns [io.EOF].
func (u *Upload) next(ctx context.Context, chunk []byte, meta jetstream.ObjectMeta) error {
	if u.at == u.size {
		info := jetstream.ObjectInfo{ObjectMeta: meta, Bucket: u.bucket, NUID: u.id, Size: uint64(u.size), Chunks: u.chunks, Digest: u.digest}
		info.Opts = &jetstream.ObjectMetaOptions{ChunkSize: uint32(len(chunk))}
		doc, _ := json.Marshal(info) // cannot fail
		if err := u.conn.rollup(ctx, aboutObject(u.bucket, meta.Name), doc, chunkTimeout); err != nil {
			return err
		}
		return io.EOF
	}
	n := min(int64(len(chunk)), u.size-u.at)
	if _, err := u.content.ReadAt(chunk[:n], u.at); err != nil && err != io.EOF {
		return localError{err}
	}
	m := &nats.Msg{Subject: chunksOf(u.bucket, u.id), Data: chunk[:n], Header: nats.Header{}}
	m.Header.Set(headerUpload, u.sum)
	m.Header.Set(headerEnd, strconv.FormatInt(u.at+n, 10))
	m.Header.Set(headerChunk, strconv.FormatUint(uint64(u.chunks)+1, 10))
	if u.at == 0 && u.last > 0 {
		m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	}
	// Two could write here, or one that was taken for dead: neither a gap nor a chunk twice.
	stored, err := u.conn.store(ctx, m, chunkTimeout, jetstream.WithExpectLastSequencePerSubject(u.last))
	if err == nil {
		if u.at == 0 {
			u.begins++
		}
		u.at, u.chunks, u.last = u.at+n, u.chunks+1, stored
	}
	return err
}

// look looks how far the upload is.
func (u *Upload) look(ctx context.Context) error {
	m, err := u.conn.Last(ctx, "OBJ_"+u.bucket, chunksOf(u.bucket, u.id))
	switch {
	case errors.Is(err, ErrNotFound):
		u.at, u.chunks, u.last = 0, 0, 0
		return nil
	case err != nil && !errors.Is(err, ErrForged):
		return err
	}
	end, _ := strconv.ParseInt(m.Header.Get(headerEnd), 10, 64)
	chunks, _ := strconv.ParseUint(m.Header.Get(headerChunk), 10, 32)
	if err != nil || m.Header.Get(headerUpload) != u.sum || end < 1 || end > u.size || chunks < 1 {
		end, chunks = 0, 0
	}
	u.at, u.chunks = end, uint32(chunks)
	u.last, err = Sequence(m)
	return err
}

// clear removes all that was stored. A message without bytes takes its place: hosts may not purge.
func (u *Upload) clear(ctx context.Context) error {
	if err := u.conn.rollup(ctx, chunksOf(u.bucket, u.id), nil, requestTimeout); err != nil {
		return err
	}
	return u.look(ctx)
}

// rollup stores a message in the place of all others of its subject.
func (c *Conn) rollup(ctx context.Context, subject string, doc []byte, wait time.Duration) error {
	m := &nats.Msg{Subject: subject, Data: doc, Header: nats.Header{}}
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err := c.store(ctx, m, wait)
	return err
}

// store stores a message, and returns its place in its stream.
func (c *Conn) store(ctx context.Context, m *nats.Msg, wait time.Duration, more ...jetstream.PublishOpt) (at uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ack, err := c.JS.PublishMsg(ctx, m, more...)
	var api *jetstream.APIError
	if errors.As(err, &api) && slices.Contains(full, api.ErrorCode) {
		return 0, fmt.Errorf("%w: %s", ErrFull, api.Description)
	}
	if err != nil {
		return 0, withoutStream(err)
	}
	return ack.Sequence, nil
}
