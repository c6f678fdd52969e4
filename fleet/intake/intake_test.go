package intake

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/fleet/shelf"
	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

// A bench is an intake with a server, and with the key that it trusts.
type bench struct {
	t      *testing.T
	server *natsserver.Server
	conn   *fleet.Conn
	key    minisign.PrivateKey
	dir    sets.Dir
	intake *Intake
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, server: natsserver.Start(t, "")}
	c := config.Fleet{Servers: []string{b.server.URL}, Name: "culprit", Host: "web1"}
	var err error
	if b.conn, err = fleet.Connect(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.conn.Close)
	b.make()
	public, secret, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b.key = secret
	if b.dir, err = sets.OpenDir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	host, err := fleet.ConnectHost(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	trust := sets.Trust{Fleet: "culprit", Host: "web1", Keys: []minisign.PublicKey{public}}
	b.intake = New(host, trust, b.dir, func() int64 { return 0 }, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.intake.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return b
}

// make makes the buckets.
func (b *bench) make() {
	b.t.Helper()
	if _, err := b.conn.JS.CreateKeyValue(b.t.Context(), jetstream.KeyValueConfig{Bucket: string(b.conn.Name.Sets())}); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.conn.JS.CreateObjectStore(b.t.Context(), jetstream.ObjectStoreConfig{Bucket: b.conn.Name.Lists()}); err != nil {
		b.t.Fatal(err)
	}
}

// next waits for news.
func (b *bench) next() News {
	b.t.Helper()
	select {
	case n := <-b.intake.News():
		return n
	case <-time.After(30 * time.Second):
		b.t.Fatal("no news")
	}
	return News{}
}

// set makes a set with a list that is a file.
func (b *bench) set(version uint64, list []byte) (*sets.Set, map[string]string) {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "feed.txt")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		b.t.Fatal(err)
	}
	s := &sets.Set{Format: sets.Format, Fleet: "culprit", Name: "zones", Version: version, Created: time.Now().UTC().Truncate(time.Second)}
	paths, err := s.Build([]config.Rule{{Name: "feed", List: config.Paths{path}}}, map[string][]sets.File{"feed": {{Path: path}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return s, paths
}

func (b *bench) publish(s *sets.Set, paths map[string]string) {
	b.t.Helper()
	signed, err := sets.Sign(s, b.key)
	if err == nil {
		err = shelf.Put(b.t.Context(), b.conn, signed, paths)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// store puts bytes on the servers as the list with some SHA-256.
func (b *bench) store(sha256 string, doc []byte) {
	b.t.Helper()
	store, err := b.conn.JS.ObjectStore(b.t.Context(), b.conn.Name.Lists())
	if err == nil {
		_, err = store.PutBytes(b.t.Context(), sha256, doc)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// Lists come as they were signed, in many pieces; another file in their place, a longer one, or none is told, and tried again. Nobody has
// to want a list for sets to come.
func TestLists(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	long := bytes.Repeat([]byte("evil.example\n"), 100_000) // ten pieces
	s, paths := b.set(1, long)
	b.publish(s, paths)
	n := b.next()
	if n.Set == nil || n.Set.Version != 1 {
		t.Fatalf("the news is %+v", n)
	}
	b.intake.Want([]*sets.Set{n.Set})
	if n := b.next(); n.Fetched == nil || n.Err != nil || !b.dir.Ready(s) {
		t.Fatalf("the news is %+v", n)
	}

	s, paths = b.set(2, []byte("good.example\n"))
	b.publish(s, paths)
	want := b.next().Set
	for _, tc := range []struct{ doc, says string }{
		{"good.examplf\n", "is not the one that was signed"},
		{"good.example\nmore\n", "it has 18 bytes, more than 13"},
		{"", "is not the one that was signed"},
	} {
		b.store(s.Lists[0].SHA256, []byte(tc.doc))
		b.intake.Want([]*sets.Set{want})
		if n := b.next(); n.Err == nil || !strings.Contains(n.Err.Error(), tc.says) {
			t.Errorf("the list %q: %v, want %q", tc.doc, n.Err, tc.says)
		}
	}
	b.store(s.Lists[0].SHA256, []byte("good.example\n"))
	for n := b.next(); n.Err != nil; n = b.next() { // it tries again by itself
	}
	if !b.dir.Ready(want) {
		t.Error("the list is not there")
	}

	// One that the servers do not have.
	sum := sha256.Sum256([]byte("x"))
	s.Version, s.Lists[0].SHA256, s.Lists[0].Size = 3, hex.EncodeToString(sum[:]), 1
	b.intake.Want([]*sets.Set{s})
	if n := b.next(); n.Err == nil || !strings.Contains(n.Err.Error(), "publish the set again") {
		t.Errorf("the news is %+v", n)
	}
}

// What is removed without a word, or with the whole bucket, is told; what comes after the servers were away, and in a bucket that was
// made anew, is found.
func TestGone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, paths := b.set(1, []byte("evil.example\n"))
	b.publish(s, paths)
	if n := b.next(); n.Set == nil {
		t.Fatalf("the news is %+v", n)
	}
	if err := b.conn.JS.DeleteKeyValue(t.Context(), string(b.conn.Name.Sets())); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.JS.DeleteObjectStore(t.Context(), b.conn.Name.Lists()); err != nil {
		t.Fatal(err)
	}
	b.make()
	if _, err := b.conn.JS.Publish(t.Context(), b.conn.Name.Sets().Subject("other"), []byte("junk")); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for len(got) < 2 {
		n := b.next()
		switch {
		case n.Gone:
			got["gone "+n.Name] = true
		case n.Refused != nil:
			got["refused "+n.Name] = true
		}
	}
	if !got["gone zones"] || !got["refused other"] {
		t.Errorf("the news were %v", got)
	}
	b.server.Kill()
	b.server.Start()
	s.Version = 2
	again := func() (err error) {
		for range 100 {
			signed, signErr := sets.Sign(s, b.key)
			if signErr != nil {
				return signErr
			}
			if err = shelf.Put(t.Context(), b.conn, signed, paths); err == nil {
				return nil
			}
			<-time.After(100 * time.Millisecond)
		}
		return err
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
	for n := b.next(); n.Set == nil || n.Set.Version != 2; n = b.next() {
	}
}
