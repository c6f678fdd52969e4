package fleet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
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
	if err := put(t, c, "large", random); !errors.Is(err, fleet.ErrFull) {
		t.Fatalf("2 MiB into 1 MiB: %v", err)
	}
	small := random[:900<<10]
	if left, most, err := c.Room(t.Context(), bucket); err != nil || most != 1<<20 || left < fleet.Stored(int64(len(small))) {
		t.Errorf("%d of %d bytes are free, %v: what could not be finished is still there", left, most, err)
	}
	if err := put(t, c, "small", small); err != nil {
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

// put puts an object into the store of a host.
func put(t *testing.T, c *fleet.Conn, name string, content []byte) error {
	t.Helper()
	u, err := c.Upload(t.Context(), c.Name.Bundles(c.Host), name, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	return u.Put(t.Context(), jetstream.ObjectMeta{Name: name})
}

// stored returns how many messages the chunks of an id have.
func stored(t *testing.T, g *guarded, host, id string) uint64 {
	t.Helper()
	bucket := g.op.Name.Bundles(host)
	s, err := g.op.JS.Stream(t.Context(), "OBJ_"+bucket)
	if err != nil {
		t.Fatal(err)
	}
	subject := "$O." + bucket + ".C." + id
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects[subject]
}

// holds fails if an object is not what it should be, as the library of NATS reads it.
func holds(t *testing.T, g *guarded, host, name string, want []byte) {
	t.Helper()
	store, err := g.op.JS.ObjectStore(t.Context(), g.op.Name.Bundles(host))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.GetBytes(t.Context(), name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v; want %d", name, len(got), err, len(want))
	}
	if n, want := stored(t, g, host, name), uint64((len(want)+128<<10-1)/(128<<10)); n != want {
		t.Errorf("%s has %d chunks, want %d", name, n, want)
	}
}

// watched is content that calls at when the bytes at an offset are read.
type watched struct {
	*bytes.Reader
	at   func(offset int64)
	last int64
	back int64 // how far reading went back, at most
}

func (w *watched) ReadAt(p []byte, offset int64) (int, error) {
	w.back, w.last = max(w.back, w.last-offset), offset
	w.at(offset)
	return w.Reader.ReadAt(p, offset)
}

// An upload goes on when the server is there again, which was killed in the middle; also one that had another process, if it is of the same
// bytes. Others, and what somebody else has put into its place, do not get into the object.
func TestUploadInterrupted(t *testing.T) {
	t.Parallel()
	const size, middle = 4<<20 + 1000, 2 << 20
	random := make([]byte, 2*size)
	rand.Read(random)
	content, other := random[:size], random[size:]
	g := newGuarded(t, "a")
	c := g.host("a")
	bucket := c.Name.Bundles("a")
	upload := func(w *watched, id string) *fleet.Upload {
		t.Helper()
		u, err := c.Upload(t.Context(), bucket, id, w, size)
		if err != nil {
			t.Fatal(err)
		}
		w.last, w.back = 0, 0
		return u
	}
	once := func(what func()) func(int64) {
		done := false
		return func(offset int64) {
			if offset == middle && !done {
				done = true
				what()
			}
		}
	}
	nothing := func(int64) {}

	// Killed in the middle.
	w := &watched{Reader: bytes.NewReader(content), at: nothing}
	u := upload(w, "killed")
	w.at = once(func() {
		g.server.Kill()
		g.server.Start()
	})
	if err := u.Put(t.Context(), jetstream.ObjectMeta{Name: "killed"}); err != nil {
		t.Fatal(err)
	}
	holds(t, g, "a", "killed", content)
	if w.back > 128<<10 {
		t.Errorf("after the server was killed it went back by %d bytes", w.back)
	}

	// Another process goes on, with the same bytes.
	for name, then := range map[string]struct {
		content []byte
		there   int64
	}{"same": {content, middle}, "other": {other, 0}} {
		ctx, end := context.WithCancel(t.Context())
		w = &watched{Reader: bytes.NewReader(content), at: nothing}
		u = upload(w, name)
		w.at = once(end)
		if err := u.Put(ctx, jetstream.ObjectMeta{Name: name}); !errors.Is(err, context.Canceled) {
			t.Fatalf("an upload that is ended: %v", err)
		}
		w = &watched{Reader: bytes.NewReader(then.content), at: nothing}
		u = upload(w, name)
		if u.There() != then.there {
			t.Errorf("%d bytes are there, want %d", u.There(), then.there)
		}
		if err := u.Put(t.Context(), jetstream.ObjectMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
		holds(t, g, "a", name, then.content)
	}

	// What another writes among the chunks.
	w = &watched{Reader: bytes.NewReader(content), at: nothing}
	u = upload(w, "mixed")
	w.at = once(func() {
		if _, err := g.op.JS.Publish(t.Context(), "$O."+bucket+".C.mixed", []byte("other")); err != nil {
			t.Error(err)
		}
	})
	if err := u.Put(t.Context(), jetstream.ObjectMeta{Name: "mixed"}); err != nil {
		t.Fatal(err)
	}
	holds(t, g, "a", "mixed", content)
}

// What an interrupted upload has left is removed, with the rights of a host, once nobody goes on with it; all else stays.
func TestRemoveLeftovers(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "a")
	c := g.host("a")
	bucket := c.Name.Bundles("a")
	content := make([]byte, 1<<20)
	rand.Read(content)
	if err := put(t, c, "whole", content); err != nil {
		t.Fatal(err)
	}
	store, err := g.op.JS.ObjectStore(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutBytes(t.Context(), "foreign", content); err != nil {
		t.Fatal(err)
	}
	before, _, err := c.Room(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	w := &watched{Reader: bytes.NewReader(content), at: func(int64) {}}
	u, err := c.Upload(ctx, bucket, "left", w, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	w.at = func(offset int64) {
		if offset > 500_000 {
			end()
		}
	}
	if err := u.Put(ctx, jetstream.ObjectMeta{Name: "left"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	name := func(id string) string { return id }
	for _, tc := range []struct {
		but   string
		after time.Duration
		want  int
	}{{"", time.Hour, 0}, {"left", 0, 0}, {"", 0, 1}, {"", 0, 0}} {
		if n, err := c.RemoveLeftovers(t.Context(), bucket, tc.but, name, tc.after); err != nil || n != tc.want {
			t.Errorf("of uploads that nobody went on with for %s, but %q: %d are removed, %v; want %d", tc.after, tc.but, n, err, tc.want)
		}
	}
	if after, _, err := c.Room(t.Context(), bucket); err != nil || after < before-1024 {
		t.Errorf("%d bytes are free, before there were %d, %v", after, before, err)
	}
	holds(t, g, "a", "whole", content)
	if got, err := store.GetBytes(t.Context(), "foreign"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("what another has put there has %d bytes, %v", len(got), err)
	}
}

// An upload goes on when the leader of the store is killed and another server of the cluster takes its place.
func TestObjectFailover(t *testing.T) {
	t.Parallel()
	servers := natsserver.Cluster(t, 3, "")
	c, err := fleet.Connect(t.Context(), config.Fleet{Servers: natsserver.URLs(servers), Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Setup(t.Context(), fleet.Plan{Replicas: 3, MaxBytes: 1 << 30, BundleBytes: 64 << 20, Hosts: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	bucket := c.Name.Bundles("a")
	killLeader := func() {
		stream, err := c.JS.Stream(t.Context(), "OBJ_"+bucket)
		if err != nil {
			t.Error(err)
			return
		}
		for _, s := range servers {
			if s.Name == stream.CachedInfo().Cluster.Leader {
				s.Kill()
				return
			}
		}
		t.Errorf("no leader: %+v", stream.CachedInfo().Cluster)
	}
	content := make([]byte, 4<<20)
	rand.Read(content)
	killed := false
	w := &watched{Reader: bytes.NewReader(content), at: func(int64) {}}
	u, err := c.Upload(t.Context(), bucket, "x", w, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	w.at = func(offset int64) {
		if offset >= 2<<20 && !killed {
			killed = true
			killLeader()
		}
	}
	if err := u.Put(t.Context(), jetstream.ObjectMeta{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the object is read", func() error {
		var got bytes.Buffer
		if err := c.Object(t.Context(), bucket, "x", 8<<20, &got); err != nil {
			return err
		}
		if !bytes.Equal(got.Bytes(), content) {
			t.Errorf("it has %d bytes, and they are not those that were put there", got.Len())
		}
		return nil
	})
	stream, err := c.JS.Stream(t.Context(), "OBJ_"+bucket)
	if err != nil {
		t.Fatal(err)
	}
	// A member that is behind may say less than is there: that is no reason to store it again.
	if n := stream.CachedInfo().State.LastSeq; n != 33 {
		t.Errorf("%d messages were stored, want 32 chunks and what describes them", n)
	}
}
