package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// settle is when to look again after somebody was heard: a server hands a message to who listens before it stores it (processInboundClientMsg
// and processInboundJetStreamMsg in nats-server), and a member of a cluster, which may be the one that answers, stores it later still.
var settle = []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second, time.Minute}

// maxHeard bounds the keys that are looked at again. Where one has no room all are told instead, after a pause: anybody can make up keys.
const (
	maxHeard   = 4096
	heardPause = 5 * time.Second
)

// Changes returns a channel that receives when it is time to read a bucket: at once, when somebody has written to it, and when the
// connection is back; and a few times after each, as who reads at once may not find it yet. It ends with the context. It says no more: what
// is heard may be anybody's answer to anything.
func (c *Conn) Changes(ctx context.Context, b Bucket) (<-chan string, error) {
	return c.changes(ctx, b, func(string) string { return "" })
}

// ChangedKeys is [Conn.Changes] for who can read single keys: it receives which, or nothing for all of them.
func (c *Conn) ChangedKeys(ctx context.Context, b Bucket) (<-chan string, error) {
	return c.changes(ctx, b, b.Key)
}

func (c *Conn) changes(ctx context.Context, b Bucket, key func(subject string) string) (<-chan string, error) {
	heard, news := make(chan string), make(chan string)
	s, err := c.Subscribe(b.Subject(">"), func(m *nats.Msg) {
		select {
		case heard <- key(m.Subject):
		case <-ctx.Done():
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen to %s: %w", b, err)
	}
	connected := c.StatusChanged(nats.CONNECTED)
	go func() {
		defer func() { _ = s.Unsubscribe() }() // it fails if the connection is closed
		defer c.RemoveStatusListener(connected)
		echo(ctx, heard, connected, news)
	}()
	return news, nil
}

// A sound is a key that was heard: when it is told, and how long after that again.
type sound struct {
	at   time.Time
	left []time.Duration
}

// echo tells each key that is heard, and again after each time of settle; and so all keys, at the start and when the connection is back.
func echo(ctx context.Context, heard <-chan string, connected <-chan nats.Status, news chan<- string) {
	all := map[string]sound{"": {time.Now(), settle}}
	hear := func(key string) {
		now := time.Now()
		before, known := all[key]
		switch {
		case known && before.at.Before(now): // it has waited its turn
			now = before.at
		case !known && key != "" && len(all) > maxHeard:
			if _, known := all[""]; !known {
				all[""] = sound{at: now.Add(heardPause)}
			}
			return
		}
		all[key] = sound{now, settle}
	}
	for {
		var (
			first string
			tell  chan<- string
			later <-chan time.Time
		)
		for key := range all {
			if _, is := all[first]; !is || all[key].at.Before(all[first].at) {
				first = key
			}
		}
		if next, is := all[first]; is {
			if wait := time.Until(next.at); wait > 0 {
				later = time.After(wait)
			} else {
				tell = news
			}
		}
		select {
		case key := <-heard:
			hear(key)
		case <-connected:
			hear("")
		case tell <- first:
			if left := all[first].left; len(left) > 0 {
				all[first] = sound{time.Now().Add(left[0]), left[1:]}
			} else {
				delete(all, first)
			}
		case <-later:
		case <-ctx.Done():
			return
		}
	}
}
