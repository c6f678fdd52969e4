package shelf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/internal/event"
)

// Hits begins to read the hits of all hosts from now on. The function that it returns calls each with those of the rules of a set, until the
// context ends; a hit that is told again is left out.
func Hits(ctx context.Context, c *fleet.Conn, set string) (read func(each func(host string, h *event.Hit)) error, err error) {
	stream, err := c.JS.Stream(ctx, c.Name.Stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("the servers have no %s: type `culprit fleet init`", c.Name.Stream())
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.Name.Stream(), err)
	}
	// By its number: when the connection is back, before the first one has come, "new" would be only what comes from then on.
	next := stream.CachedInfo().State.LastSeq + 1
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: next})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.Name.Stream(), err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		c.Leave(c.Name.Stream(), consumer)
		return nil, fmt.Errorf("read %s: %w", c.Name.Stream(), err)
	}
	return func(each func(string, *event.Hit)) error {
		defer c.Leave(c.Name.Stream(), consumer)
		defer messages.Stop()
		defer context.AfterFunc(ctx, messages.Stop)()
		told := map[string]bool{}
		for {
			m, err := messages.Next()
			if ctx.Err() != nil || errors.Is(err, jetstream.ErrMsgIteratorClosed) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", c.Name.Stream(), err)
			}
			host, err := c.Name.HostOfSubject(m.Subject())
			if err != nil || fleet.Reflected(m.Headers()) {
				continue
			}
			for line := range bytes.Lines(m.Data()) {
				if h := hitOf(line, set); h != nil && !told[h.Event.ID] {
					const most = 1 << 16
					if len(told) >= most {
						clear(told)
					}
					told[h.Event.ID] = true
					each(host, h)
				}
			}
		}
	}, nil
}

// hitOf reads a line of the stream, if it is a hit of a set.
func hitOf(line []byte, set string) *event.Hit {
	const longest = 1 << 20
	if len(line) > longest || !bytes.Contains(line, []byte(set)) {
		return nil
	}
	var h event.Hit
	if json.Unmarshal(line, &h) != nil || h.Event.Action != event.ActionHit || h.Rule.Ruleset != set {
		return nil
	}
	return &h
}
