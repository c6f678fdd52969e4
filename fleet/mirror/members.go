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

// askAll is how often all that hosts say of themselves is read, whatever was heard.
const askAll = 5 * time.Minute

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
	changed, err := c.ChangedKeys(ctx, hosts)
	if err != nil {
		return failed(err)
	}
	send := func(one member) error {
		select {
		case to <- one:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	seen := fleet.Seen{}
	said := func(subject string, msg *nats.Msg) error {
		if order, err := seen.Compare(subject, msg); order <= 0 || err != nil {
			return err
		}
		one, err := memberOf(hosts.Key(subject), msg)
		if err != nil || one.Host == "" {
			return err
		}
		return send(member{Member: one})
	}
	all := time.NewTicker(askAll)
	defer all.Stop()
	for {
		host := ""
		select {
		case host = <-changed:
		case <-all.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if host == "" {
			if err := c.LastOfEach(ctx, hosts.Stream(), hosts.Subject(">"), said); err != nil {
				return failed(err)
			}
			if err := send(member{last: true}); err != nil {
				return err
			}
			continue
		}
		// A message itself can be anybody's answer to anything: only what the bucket has counts.
		msg, err := c.Last(ctx, hosts.Stream(), hosts.Subject(host))
		if err == nil {
			err = said(hosts.Subject(host), msg)
		}
		if err != nil && !errors.Is(err, fleet.ErrForged) && !errors.Is(err, fleet.ErrNotFound) {
			return failed(err)
		}
	}
}

// memberOf reads what stands in the place of a host. Without a host it says nothing that could be read.
func memberOf(key string, msg *nats.Msg) (one catalogue.Member, err error) {
	host, err := fleet.HostOf(key)
	if err != nil {
		return one, nil
	}
	if one.Revision, err = fleet.Sequence(msg); err != nil {
		return one, err
	}
	if !fleet.Deleted(msg.Header) {
		one.Document = msg.Data
		if n := len(msg.Data); n > fleet.MaxStatus {
			unread := fleet.Status{Host: host, Unread: fmt.Sprintf("it has %d bytes, and a host of this version says %d at most", n, fleet.MaxStatus)}
			if one.Document, err = json.Marshal(unread); err != nil {
				return one, err
			}
		}
		if !json.Valid(one.Document) {
			return one, nil
		}
	}
	one.Host = host
	return one, nil
}

// member writes what a host said of itself.
func (m *Mirror) member(ctx context.Context, one catalogue.Member) error {
	if one.Document == nil {
		return m.catalogue.RemoveMember(ctx, one.Host)
	}
	return m.catalogue.PutMember(ctx, one)
}
