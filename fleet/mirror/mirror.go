// Package mirror keeps the mirror of a fleet: an evidence directory with the documents of all its hosts, which every
// command that reads evidence can show. It also works while the servers are away, with what was read before.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/retention"
	"culprit/internal/event"
)

// A Message is one of the stream of a fleet.
type Message struct {
	Sequence uint64
	Host     string    // whose subject it came on; "": of none
	Forged   bool      // somebody else put it there
	Time     time.Time // when the stream took it
	Data     []byte    // documents, one a line
}

// A Mirror is a mirror that is open for writing. It belongs to one goroutine.
type Mirror struct {
	dir       *directory.Directory
	catalogue *catalogue.Catalogue
	log       *slog.Logger
	counted   map[lossKind]*event.Loss
}

// lossKind is what is counted in one loss, for an hour.
type lossKind struct {
	host   string
	code   event.LossCode
	detail string
}

// Open opens the mirror in dir, or begins one. The error is a [directory.LockedError] if somebody else has it open. The caller
// closes it.
func Open(dir string, log *slog.Logger) (m *Mirror, err error) {
	m = &Mirror{log: log, counted: map[lossKind]*event.Loss{}}
	if m.dir, err = directory.Open(dir); err != nil {
		return nil, err
	}
	if err = m.dir.Lock(); err == nil {
		m.catalogue, err = catalogue.OpenMirror(m.dir, log)
	}
	if err != nil {
		m.dir.Close()
		return nil, err
	}
	return m, nil
}

// Close closes the mirror.
func (m *Mirror) Close() error { return errors.Join(m.catalogue.Close(), m.dir.Close()) }

// Sweeper makes what keeps the mirror within bounds; see [retention.New].
func (m *Mirror) Sweeper(b retention.Bounds, swept func(retention.Report, error)) *retention.Sweeper {
	return retention.New(m.dir, m.catalogue.Reader(), m.catalogue, b, swept, m.log)
}

// take writes the documents of messages, which follow the position, and returns the position after them.
func (m *Mirror) take(ctx context.Context, at catalogue.Position, messages []Message) (catalogue.Position, error) {
	documents, losses := m.read(&at, messages)
	documents = append(documents, losses...)
	refused, err := m.catalogue.Receive(ctx, at, documents)
	if err != nil || len(refused) == 0 {
		return at, err
	}
	// They are counted in a transaction of their own: if we are killed in between, the count lacks them.
	var late []catalogue.Received
	for _, i := range refused {
		if documents[i].Host != "" {
			late = append(late, m.lost(documents[i].Host, event.LossUntaken, string(event.RefusedForeign), 1))
		}
	}
	_, err = m.catalogue.Receive(ctx, at, late)
	return at, err
}

// read decodes messages, and counts what is missing or refused.
func (m *Mirror) read(at *catalogue.Position, messages []Message) (documents, losses []catalogue.Received) {
	for _, msg := range messages {
		if msg.Sequence <= at.Sequence {
			continue // told again
		}
		if gap := msg.Sequence - at.Sequence - 1; gap > 0 {
			losses = append(losses, m.lost("", event.LossUnread, "", gap))
		}
		at.Sequence = msg.Sequence
		if msg.Host == "" || msg.Forged {
			losses = append(losses, m.lost("", event.LossUntaken, string(event.RefusedForged), 1))
			continue
		}
		for line := range bytes.Lines(msg.Data) {
			d, err := decode(msg.Host, line, msg.Time)
			var why refusal
			switch {
			case errors.As(err, &why):
				losses = append(losses, m.lost(msg.Host, event.LossUntaken, string(why), 1))
			case err == nil:
				documents = append(documents, catalogue.Received{Host: msg.Host, Document: d})
			}
		}
	}
	return documents, losses
}

// countFor is how long losses of one kind are counted in one document: a host that sends rubbish does not fill
// the mirror with losses.
const countFor = time.Hour

// maxKinds bounds the losses that are counted at a time.
const maxKinds = 10_000

// lost counts a loss, and returns it as it is now.
func (m *Mirror) lost(host string, code event.LossCode, detail string, n uint64) catalogue.Received {
	kind := lossKind{host, code, detail}
	l := m.counted[kind]
	if l == nil || time.Since(l.Timestamp) > countFor {
		if len(m.counted) >= maxKinds {
			clear(m.counted)
		}
		made := event.NewLoss(code, detail, 0)
		if host != "" {
			made.Host = &event.Host{Name: host}
		}
		l = &made
		m.counted[kind] = l
	}
	l.Culprit.Count += n
	return catalogue.Received{Host: host, Document: *l}
}
