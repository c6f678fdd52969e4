package intake

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/nats-io/nats.go"

	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

// A slow member of a cluster answers who reads with what was there before, or with nothing: that is neither an old version which somebody
// has put back, nor a set that is gone. The servers have no bucket here; what answers in their place is the test.
func TestBehind(t *testing.T) {
	t.Parallel()
	server := natsserver.Start(t, "")
	c := config.Fleet{Servers: []string{server.URL}, Name: "culprit", Host: "web1"}
	members, err := fleet.Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(members.Close)
	public, secret, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	places := members.Name.Sets()
	start := time.Now().UTC().Truncate(time.Second)
	answer := func(version int) *nats.Msg {
		s := &sets.Set{Format: sets.Format, Fleet: "culprit", Name: "zones", Version: uint64(version), Created: start}
		if _, err := s.Build([]config.Rule{config.Rule{Name: "worse", String: "WORSE"}.Filled()}, nil); err != nil {
			t.Fatal(err)
		}
		signed, err := sets.Sign(s, secret)
		if err != nil {
			t.Fatal(err)
		}
		value, err := signed.Value()
		if err != nil {
			t.Fatal(err)
		}
		return &nats.Msg{Data: value, Header: nats.Header{
			"Nats-Stream": {places.Stream()}, "Nats-Subject": {places.Subject("zones")}, "Nats-Sequence": {fmt.Sprint(version)},
			"Nats-Time-Stamp": {start.Add(time.Duration(version) * time.Second).Format(time.RFC3339Nano)},
		}}
	}
	nothing := &nats.Msg{Header: nats.Header{"Status": {"404"}}}
	var mu sync.Mutex
	answers := []*nats.Msg{answer(2)} // until that was told
	if _, err := members.Subscribe("$JS.API.DIRECT.GET."+places.Stream(), func(m *nats.Msg) {
		mu.Lock()
		now := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		_ = m.RespondMsg(now)
		if now != nothing {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"204"}, "Nats-Num-Pending": {"0"}}})
		}
		_ = members.Publish(places.Subject("zones"), nil) // so that it reads again
	}); err != nil {
		t.Fatal(err)
	}
	if err := members.Flush(); err != nil {
		t.Fatal(err)
	}
	dir, err := sets.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	i := New(members, sets.Trust{Fleet: "culprit", Host: "web1", Keys: []minisign.PublicKey{public}}, dir, func() int64 { return 0 }, slog.New(slog.DiscardHandler))
	go func() { _ = i.Run(t.Context()) }()
	var told strings.Builder
	for !strings.Contains(told.String(), "version 3") {
		select {
		case n := <-i.News():
			if n.Set != nil {
				fmt.Fprintf(&told, "version %d, ", n.Set.Version)
				mu.Lock()
				if len(answers) == 1 {
					answers = []*nats.Msg{answer(1), answer(2), nothing, answer(1), answer(2), answer(3)}
				}
				mu.Unlock()
			} else {
				fmt.Fprintf(&told, "%+v, ", n)
			}
		case <-time.After(time.Minute):
			t.Fatalf("the news are %s", &told)
		}
	}
	if got := told.String(); got != "version 2, version 3, " {
		t.Errorf("the news are %s", got)
	}
}
