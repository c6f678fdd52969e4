package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence/catalogue"
	"culprit/fleet"
	"culprit/internal/event"
)

// Bounds of what is read at once.
const (
	pullMessages = 500
	pullBytes    = 8 << 20
	batchBytes   = 4 << 20 // of one transaction
	retryWait    = 2 * time.Second
	patience     = 30 * time.Second // with servers that send nothing of what they have
)

// Follow reads what the fleet has until the context ends, and again when the servers were away. It calls ready
// once the mirror has all that was there at the start.
func (m *Mirror) Follow(ctx context.Context, c *fleet.Conn, ready func()) error {
	for ctx.Err() == nil {
		err := m.follow(ctx, c, func() bool {
			if ready != nil {
				ready()
				ready = nil
			}
			return true
		})
		if ctx.Err() != nil {
			break
		}
		var broken writeError
		if errors.As(err, &broken) {
			return broken.error
		}
		m.log.Warn("the mirror does not get the events of the fleet: trying again", "error", err)
		select {
		case <-time.After(retryWait):
		case <-ctx.Done():
		}
	}
	return nil
}

// CatchUp reads what the fleet has now.
func (m *Mirror) CatchUp(ctx context.Context, c *fleet.Conn) error {
	err := m.follow(ctx, c, func() bool { return false })
	var broken writeError
	if errors.As(err, &broken) {
		return broken.error
	}
	return err
}

// writeError is one of the mirror itself, not of the fleet.
type writeError struct{ error }

// follow reads until the context ends, or onward returns false, which is called when the mirror has what was there.
func (m *Mirror) follow(ctx context.Context, c *fleet.Conn, onward func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	at, last, err := m.start(ctx, c)
	if err != nil {
		return err
	}
	left := make(chan struct{}) // whoever called us closes the connection
	defer func() {
		cancel()
		select {
		case <-left:
		case <-time.After(fleet.LeaveWithin):
		}
	}()
	failed := make(chan error, 2)
	messages := make(chan Message, pullMessages)
	members := make(chan member, 64)
	run := func(f func() error) {
		go func() {
			if err := f(); err != nil {
				failed <- err
			}
		}()
	}
	run(func() error {
		defer close(left)
		return pull(ctx, c, at, messages)
	})
	run(func() error { return watch(ctx, c, members) })
	quiet := time.NewTimer(patience)
	defer quiet.Stop()
	for known, told := false, false; ; {
		if !told && known && at.Sequence >= last {
			told = true
			if !onward() {
				return nil
			}
		}
		select {
		case msg := <-messages:
			if at, err = m.take(ctx, at, gather(msg, messages)); err != nil {
				return writeError{err}
			}
			quiet.Reset(patience)
		case one := <-members:
			quiet.Reset(patience)
			if known = known || one.last; one.last {
				continue
			}
			if err := m.member(ctx, one.Member); err != nil {
				return writeError{err}
			}
		case <-quiet.C:
			if !told {
				return fmt.Errorf("read the events of the fleet: the servers sent nothing for %s, after message %d of %d", patience, at.Sequence, last)
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start returns where the mirror goes on reading, and the last message that is there now. What the servers have removed before it was
// read is counted.
func (m *Mirror) start(ctx context.Context, c *fleet.Conn) (at catalogue.Position, last uint64, err error) {
	stream, err := c.JS.Stream(ctx, c.Name.Stream())
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = fmt.Errorf("%w: is the fleet called so (fleet.name)? An operator makes it with culprit fleet init", err)
		}
		return at, 0, fmt.Errorf("read the stream %s of the fleet: %w", c.Name.Stream(), err)
	}
	info := stream.CachedInfo()
	if at, err = m.catalogue.Position(c.Name.Stream()); err != nil {
		return at, 0, writeError{err}
	}
	if !at.Created.Equal(info.Created) || at.Sequence > info.State.LastSeq { // new, for us or for all
		at.Created, at.Sequence = info.Created, max(info.State.FirstSeq, 1)-1
	}
	var losses []catalogue.Received
	if first := info.State.FirstSeq; first > at.Sequence+1 { // the rest of it may never come
		losses = append(losses, m.lost("", event.LossUnread, "", first-at.Sequence-1))
		at.Sequence = first - 1
	}
	// Also what has no message yet is a mirror.
	if _, err := m.catalogue.Receive(ctx, at, losses); err != nil {
		return at, 0, writeError{err}
	}
	last, err = lastOf(ctx, c, info.State)
	return at, last, err
}

// lastOf returns the last message that is in the stream, which is not that which was put in last if it was removed. It is 0 if the
// stream is empty.
func lastOf(ctx context.Context, c *fleet.Conn, s jetstream.StreamState) (uint64, error) {
	switch {
	case s.Msgs == 0:
		return 0, nil
	case s.NumDeleted == 0:
		return s.LastSeq, nil
	}
	m, err := c.Last(ctx, c.Name.Stream(), c.Name.Subjects())
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		return 0, nil
	case err != nil && !errors.Is(err, fleet.ErrForged):
		return 0, fmt.Errorf("look how far the fleet is: %w", err)
	}
	return fleet.Sequence(m)
}

// pull reads messages after a position.
func pull(ctx context.Context, c *fleet.Conn, at catalogue.Position, to chan<- Message) error {
	// Not until ctx ends: one that was made just then would stay, as nobody knows its name.
	consumer, err := c.JS.OrderedConsumer(context.WithoutCancel(ctx), at.Stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: at.Sequence + 1})
	if err != nil {
		return fmt.Errorf("read the events of the fleet: %w", err)
	}
	defer c.Leave(at.Stream, consumer)
	all, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes))
	if err != nil {
		return fmt.Errorf("read the events of the fleet: %w", err)
	}
	defer all.Stop()
	defer context.AfterFunc(ctx, all.Stop)()
	for {
		msg, err := all.Next()
		if err != nil {
			return fmt.Errorf("read the events of the fleet: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the events of the fleet: %w", err)
		}
		host, _ := c.Name.HostOfSubject(msg.Subject()) // else it is of none
		select {
		case to <- Message{Sequence: meta.Sequence.Stream, Host: host, Forged: forged(msg), Time: meta.Timestamp, Data: msg.Data()}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// forged reports whether somebody else than a culprit put a message where it is, see [fleet.ErrForged]. One without a body, by which an
// operator hands a name over, says nothing that could be.
func forged(m jetstream.Msg) bool {
	h := m.Headers()
	return fleet.Reflected(h) || h.Get(fleet.HeaderOutbox) == "" && len(m.Data()) > 0
}

// gather returns a message and those that wait behind it.
func gather(first Message, more <-chan Message) []Message {
	all := []Message{first}
	for size := len(first.Data); size < batchBytes; {
		select {
		case msg := <-more:
			all = append(all, msg)
			size += len(msg.Data)
		default:
			return all
		}
	}
	return all
}
