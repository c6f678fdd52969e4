package fleet_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
)

// With the rights of a host an object that does not fit fails with what the servers say, and leaves no bytes behind: a small one after
// it has room.
func TestPutObjectFull(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "a") // 64 MiB
	c := g.host("a")
	bucket := c.Name.Bundles(c.Host)
	stream, err := g.op.JS.Stream(t.Context(), "OBJ_"+bucket)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 1 << 20
	if _, err := g.op.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 2<<20)
	rand.Read(random)
	if err := c.PutObject(t.Context(), bucket, jetstream.ObjectMeta{Name: "large"}, bytes.NewReader(random)); !errors.Is(err, fleet.ErrFull) {
		t.Fatalf("2 MiB into 1 MiB: %v", err)
	}
	small := random[:900<<10]
	if left, most, err := c.Room(t.Context(), bucket); err != nil || most != 1<<20 || left < fleet.Stored(int64(len(small))) {
		t.Errorf("%d of %d bytes are free, %v: what could not be finished is still there", left, most, err)
	}
	if err := c.PutObject(t.Context(), bucket, jetstream.ObjectMeta{Name: "small"}, bytes.NewReader(small)); err != nil {
		t.Fatal(err)
	}
	store, err := g.op.JS.ObjectStore(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.GetBytes(t.Context(), "small"); err != nil || !bytes.Equal(got, small) {
		t.Errorf("nats.go reads %d bytes, %v", len(got), err)
	}
	var got bytes.Buffer
	if err := c.Object(t.Context(), bucket, "small", 1<<20, &got); err != nil || !bytes.Equal(got.Bytes(), small) {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
	if left, _, err := c.Room(t.Context(), bucket); err != nil || left < 1<<20-fleet.Stored(int64(len(small)))-1024 {
		t.Errorf("%d bytes are free, %v: an object takes more than it should", left, err)
	}
}
