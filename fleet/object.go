package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// ErrTooLarge says that an object has more bytes than whoever wants it takes.
var ErrTooLarge = errors.New("it is too large")

// ErrDeleted says that an object was there. It is a kind of [ErrNotFound].
var ErrDeleted = fmt.Errorf("%w: it was deleted", ErrNotFound)

// ErrDamaged says that the bytes of an object are not those that its description says.
var ErrDamaged = errors.New("it is damaged")

// An Object is what an object store says of one of its objects (ADR-20 of NATS). Whoever put it there wrote that.
type Object struct {
	Bucket, Name string
	ID           string // of its chunks; what is put there anew may have another
	Size         int64  // in bytes
	Digest       string // as [Digest] writes it
}

// Digest writes a SHA-256 as object stores do.
func Digest(sum hash.Hash) string {
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum.Sum(nil))
}

// The subjects of an object store.
func chunksOf(bucket, id string) string { return "$O." + bucket + ".C." + id }

func aboutObject(bucket, name string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// Find reads what an object store says of an object. It fails with [ErrNotFound] if it has none of that name.
func (c *Conn) Find(ctx context.Context, bucket, name string) (Object, error) {
	failed := func(err error) (Object, error) { return Object{}, fmt.Errorf("get %s: %w", name, err) }
	m, err := c.Last(ctx, "OBJ_"+bucket, aboutObject(bucket, name))
	if err != nil {
		return failed(err)
	}
	var info struct {
		Size    int64  `json:"size"`
		ID      string `json:"nuid"`
		Digest  string `json:"digest"`
		Deleted bool   `json:"deleted"`
	}
	switch err := json.Unmarshal(m.Data, &info); {
	case err != nil:
		return failed(fmt.Errorf("read its description: %w", err))
	case info.Deleted:
		return failed(ErrDeleted)
	case info.Size < 0 || info.ID == "" || len(info.ID) > 100 || len(info.Digest) > 100 || strings.ContainsAny(info.ID, " .*>\t\r\n"):
		return failed(errors.New("its description is none"))
	}
	return Object{bucket, name, info.ID, info.Size, info.Digest}, nil
}

// Chunk reads the first chunk of an object that stands in the stream of its store behind some place; 0 is the begin. It returns the place
// of that chunk. That there is none is [ErrDamaged].
func (c *Conn) Chunk(ctx context.Context, o Object, behind uint64) (data []byte, at uint64, err error) {
	m, err := c.get(ctx, "OBJ_"+o.Bucket, "", &getRequest{Sequence: behind + 1, NextFor: chunksOf(o.Bucket, o.ID)})
	if err == nil {
		at, err = Sequence(m)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, 0, fmt.Errorf("get %s: %w: a part of it is missing", o.Name, ErrDamaged)
	case err != nil:
		return nil, 0, fmt.Errorf("get %s: %w", o.Name, err)
	case len(m.Data) == 0:
		return nil, 0, fmt.Errorf("get %s: %w: a part of it is empty", o.Name, ErrDamaged)
	}
	return m.Data, at, nil
}

// Object writes an object of an object store, of at most that many bytes (see [ErrTooLarge]), to w. It fails if the digest is not that of what it
// wrote.
func (c *Conn) Object(ctx context.Context, bucket, name string, most int64, w io.Writer) error {
	o, err := c.Find(ctx, bucket, name)
	if err != nil {
		return err
	}
	if o.Size > most {
		return fmt.Errorf("get %s: %w: it has %d bytes, more than %d", name, ErrTooLarge, o.Size, most)
	}
	sum := sha256.New()
	for size, at := int64(0), uint64(0); size < o.Size; {
		var data []byte
		if data, at, err = c.Chunk(ctx, o, at); err != nil {
			return err
		}
		if size += int64(len(data)); size > o.Size {
			return fmt.Errorf("get %s: %w: it is longer than its description says", name, ErrDamaged)
		}
		sum.Write(data)
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("get %s: %w", name, err)
		}
	}
	if got := Digest(sum); got != o.Digest {
		return fmt.Errorf("get %s: %w: it has the digest %s, its description says %.80q", name, ErrDamaged, got, o.Digest)
	}
	return nil
}
