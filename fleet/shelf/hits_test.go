package shelf

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// The hits of a set come from the moment on at which somebody began to read them, also if the servers were away before the first one, and it
// came before the reader was back.
func TestHitsAfterBreak(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, "")
	connect := func() *fleet.Conn {
		c, err := fleet.Connect(t.Context(), config.Fleet{Servers: []string{s.URL}, Name: "culprit"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	reader := connect()
	if _, err := reader.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	publish := func(c *fleet.Conn, hits ...int) {
		t.Helper()
		for _, i := range hits {
			doc, err := json.Marshal(event.Hit{Event: event.Meta{ID: fmt.Sprint(i), Action: event.ActionHit}, Rule: event.Rule{Ruleset: "zones"}})
			if err == nil {
				_, err = c.JS.PublishMsg(t.Context(), &nats.Msg{Subject: c.Name.Subject("web1"), Data: append(doc, '\n')})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(reader, 1)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	read, err := Hits(ctx, reader, "zones")
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.Start()
	// The reader waits a moment before it connects again; whoever connects now does not.
	publish(connect(), 2, 3)
	came := make(chan string, 8)
	ended := make(chan error)
	go func() { ended <- read(func(_ string, h *event.Hit) { came <- h.Event.ID }) }()
	for _, want := range []string{"2", "3"} {
		select {
		case got := <-came:
			if got != want {
				t.Errorf("hit %s came, want %s", got, want)
			}
		case <-time.After(2 * testkit.Patience):
			t.Fatalf("hit %s did not come", want)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
