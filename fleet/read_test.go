package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

// setUp makes a fleet on a server of its own.
func setUp(t testing.TB, p Plan) *Conn {
	t.Helper()
	s := natsserver.Start(t, "")
	c, err := Connect(context.Background(), config.Fleet{Servers: []string{s.URL}, Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p.Replicas, p.BundleBytes = 1, 64<<20
	if _, err := c.Setup(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return c
}

// What is there is kept, and said if it is otherwise.
func TestSetup(t *testing.T) {
	t.Parallel()
	c := setUp(t, Plan{MaxBytes: 1 << 20})
	all, err := c.Setup(t.Context(), Plan{Replicas: 1, MaxBytes: 2 << 20, BundleBytes: 1 << 20, Hosts: []string{"web1.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	made, differs := 0, 0
	for _, one := range all {
		if one.New {
			made++
		}
		if len(one.Differs) > 0 {
			differs++
			if got := fmt.Sprint(one.Name, one.Differs); got != "f_events[max_bytes is 1048576, not 2097152]" {
				t.Error(got)
			}
		}
	}
	if made != 2 || differs != 1 || len(all) != 7 {
		t.Errorf("%+v", all)
	}
	// They are what the library takes for buckets.
	for _, bucket := range []Bucket{c.Name.Hosts(), c.Name.Sets(), c.Name.Requests()} {
		if _, err := c.JS.KeyValue(t.Context(), string(bucket)); err != nil {
			t.Error(bucket, err)
		}
	}
	for _, store := range []string{c.Name.Lists(), c.Name.Bundles("web1.example.com")} {
		if _, err := c.JS.ObjectStore(t.Context(), store); err != nil {
			t.Error(store, err)
		}
	}
}

func TestLastOfEach(t *testing.T) {
	t.Parallel()
	c := setUp(t, Plan{})
	read := func() (n, bytes int) {
		t.Helper()
		err := c.LastOfEach(t.Context(), "KV_f_sets", "$KV.f_sets.>", func(subject string, m *nats.Msg) error {
			n++
			bytes += len(m.Data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n, bytes
	}
	if n, _ := read(); n != 0 {
		t.Errorf("%d keys of none", n)
	}
	// More than fits into one answer.
	for i := range 900 {
		if err := c.Put(t.Context(), "f_sets", fmt.Sprint("k", i%300), make([]byte, 200_000)); err != nil && i < 300 {
			t.Fatal(err)
		}
	}
	if n, bytes := read(); n != 300 || bytes != 300*200_000 {
		t.Errorf("%d keys, %d bytes", n, bytes)
	}
}

// A fleet may have more hosts than a server tells the last messages of at once.
func TestLastOfMany(t *testing.T) {
	t.Parallel()
	c := setUp(t, Plan{})
	const hosts = 2100
	for i := range hosts {
		if _, err := c.JS.PublishAsync(c.Name.Hosts().Subject(fmt.Sprint("web", i)), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	<-c.JS.PublishAsyncComplete()
	if err := c.Put(t.Context(), c.Name.Hosts(), "web7", []byte("again")); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err := c.LastOfEach(t.Context(), c.Name.Hosts().Stream(), c.Name.Hosts().Subject(">"), func(subject string, m *nats.Msg) error {
		if key := c.Name.Hosts().Key(subject); got[key] != "" {
			t.Errorf("%s came twice", key)
		} else {
			got[key] = string(m.Data)
		}
		return nil
	})
	if err != nil || len(got) != hosts || got["web7"] != "again" || got["web2099"] != "2099" {
		t.Errorf("%d hosts, %v", len(got), err)
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	c := setUp(t, Plan{})
	store, err := c.JS.ObjectStore(t.Context(), c.Name.Lists())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 128 << 10, 700_000} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		name := fmt.Sprint("object ", size)
		if _, err := store.Put(t.Context(), jetstream.ObjectMeta{Name: name}, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := c.Object(t.Context(), c.Name.Lists(), name, 1<<20, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: %v, %d bytes", name, err, got.Len())
		}
		if err := c.Object(t.Context(), c.Name.Lists(), name, int64(size)-1, &got); err == nil {
			t.Errorf("%s: it is longer than it may be", name)
		}
	}
	if err := c.Object(t.Context(), c.Name.Lists(), "no", 1, new(bytes.Buffer)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := c.Object(t.Context(), "f_no", "no", 1, new(bytes.Buffer)); !errors.Is(err, nats.ErrNoResponders) {
		t.Error(err)
	}
}
