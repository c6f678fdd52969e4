package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"culprit/evidence/catalogue"
	"culprit/fleet"
)

// Bounds of what is read of hosts.
const (
	maxNews  = 1024
	askAll   = 5 * time.Minute // what all hosts say of themselves
	askAgain = 2 * time.Second // what one says that was heard
)

// member is what a host said of itself, or, without a document, that it is no member any more.
type member struct {
	catalogue.Member
	last bool // all that were there have come
}

// watch reads what hosts say of themselves: all at the start, and from time to time, as news of one can be lost; and
// otherwise each whose status is new.
func watch(ctx context.Context, c *fleet.Conn, to chan<- member) error {
	failed := func(err error) error {
		return fmt.Errorf("read what the hosts of the fleet say of themselves: %w", err)
	}
	hosts := c.Name.Hosts()
	news := make(chan *nats.Msg, maxNews)
	subscription, err := c.ChanSubscribe(hosts.Subject(">"), news)
	if err != nil {
		return failed(err)
	}
	defer subscription.Unsubscribe()
	send := func(one member) error {
		select {
		case to <- one:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	said := func(subject string, msg *nats.Msg) error {
		host, err := fleet.HostOf(hosts.Key(subject))
		if err != nil {
			return nil
		}
		one := member{Member: catalogue.Member{Host: host}}
		if one.Revision, err = fleet.Sequence(msg); err != nil {
			return err
		}
		if !fleet.Deleted(msg.Header) {
			one.Document = msg.Data
			if n := len(msg.Data); n > fleet.MaxStatus {
				unread := fleet.Status{Host: host, Unread: fmt.Sprintf("it has %d bytes, and a host of this version says %d at most", n, fleet.MaxStatus)}
				if one.Document, err = json.Marshal(unread); err != nil {
					return err
				}
			}
			if !json.Valid(one.Document) {
				return nil
			}
		}
		return send(one)
	}
	all := time.NewTicker(askAll)
	defer all.Stop()
	connected := c.StatusChanged(nats.CONNECTED)
	defer c.RemoveStatusListener(connected)
	// A message itself can be anybody's answer to anything: only what the bucket has counts.
	look := func(subject string) error {
		last, err := c.Last(ctx, hosts.Stream(), subject)
		if err == nil {
			err = said(subject, last)
		}
		if errors.Is(err, fleet.ErrForged) || errors.Is(err, fleet.ErrNotFound) {
			return nil
		}
		return err
	}
	for {
		if err := c.LastOfEach(ctx, hosts.Stream(), hosts.Subject(">"), said); err != nil {
			return failed(err)
		}
		if err := send(member{last: true}); err != nil {
			return err
		}
		// Who was heard, and may have been stored only after we looked (see fleet.Conn.Changes).
		late := map[string]bool{}
		var again <-chan time.Time
		for more := true; more; {
			select {
			case msg := <-news:
				if err := look(msg.Subject); err != nil {
					return failed(err)
				}
				late[msg.Subject] = true
				if again == nil {
					again = time.After(askAgain)
				}
			case <-again:
				for subject := range late {
					if err := look(subject); err != nil {
						return failed(err)
					}
				}
				clear(late)
				again = nil
			case <-all.C:
				more = false
			case <-connected:
				more = false
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// member writes what a host said of itself.
func (m *Mirror) member(ctx context.Context, one catalogue.Member) error {
	if one.Document == nil {
		return m.catalogue.RemoveMember(ctx, one.Host)
	}
	return m.catalogue.PutMember(ctx, one)
}
