package bundles

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// What was looked at and is not open is not looked at again; what runs is, until it has ended and is given.
func TestDue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, _ := evidenceOf(t, dir, fmt.Sprintf("# header\n"+sendLine, sentAt.Unix()))
	g := newGiver(nil, dir, config.BundlesAll)
	look := func(what string, open int, want ...string) {
		t.Helper()
		got, err := g.due(t.Context())
		if err != nil || !slices.Equal(got, want) || len(g.open) != open {
			t.Errorf("%s: due are %v, %v, and %v are open; want %v, and %d", what, got, err, g.open, want, open)
		}
	}
	look("one has ended", 1, first.Event.ID)
	look("it was not given", 1, first.Event.ID)
	g.given[first.Event.ID] = true
	g.close(first.Event.ID)
	look("it was given", 0)

	store, err := evidence.Open(dir, discard)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour)
	second := event.Capture{
		Timestamp: began, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &began}, User: event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateRunning},
	}
	store.Capture(second)
	testkit.Eventually(t, "the catalogue has it", func() error {
		r, err := catalogue.OpenReader(dir)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.CaptureOf(second.Event.ID)
		return err
	})
	look("another runs", 1)
	second.Event.Finish(time.Now().Add(-time.Minute))
	second.Culprit.State = event.StateEnded
	store.Capture(second)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	look("it has ended", 1, second.Event.ID)

	g.Rule = config.BundlesProven
	look("it is not proven", 0)

	// As if the first one was not given. Long after its end the proof comes.
	clear(g.given)
	look("neither is the first", 0)
	if store, err = evidence.Open(dir, discard); err != nil {
		t.Fatal(err)
	}
	store.Hit(sent(first.Event.ID))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	look("there is a hit", 0)
	if store, err = evidence.Open(dir, discard, evidence.Proven(g.Proofs.Add)); err != nil {
		t.Fatal(err)
	}
	if done, err := store.Prove(first.Event.ID); err != nil || done.Found != 1 {
		t.Fatalf("prove: %+v, %v", done, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	look("it is proven late", 1, first.Event.ID)
	g.given[first.Event.ID] = true
	g.close(first.Event.ID)
	look("it was given, too", 0)
	clear(g.given)

	captures := make([]string, maxProven+1)
	for i := range captures {
		captures[i] = event.NewID()
	}
	g.Proofs.Add(captures)
	look("so many are proven that all are looked at", 1, first.Event.ID)
}

// payload is what a packet has, and sendLine the line of a trace that sends it.
const (
	payload  = "this asks for x.badzone.test"
	sendLine = `812 %d.000000 sendto(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, "this asks for x.badzone.test", 28, 0, NULL, 0) = 28 <0.00001>` + "\n"
)

// sentAt is when it was sent.
var sentAt = time.Now().Add(-50 * time.Minute).Truncate(time.Second)

// sent is a hit of a capture, whose packet sendLine has sent.
func sent(capture string) *event.Hit {
	packet := append([]byte{0x45, 0, 0, byte(28 + len(payload)), 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 4000 >> 8, 4000 & 0xff, 0, 53, 0, byte(8 + len(payload)), 0, 0}, payload...)
	return &event.Hit{
		Timestamp: sentAt.Add(time.Millisecond), Event: event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
		Rule: event.Rule{Name: "a"}, User: &event.User{ID: "7"}, Packet: packet,
		Network: event.Network{Transport: "udp"}, Source: event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 4000}, Destination: event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53},
		Culprit: event.HitDetail{Capture: &event.Reference{ID: capture}, Count: 1},
	}
}
