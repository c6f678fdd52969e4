package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence/outlet"
	"culprit/internal/bell"
)

// The headers of a message of events. A message without a body hands the name of a host over to another machine.
const (
	HeaderOutbox  = "Culprit-Outbox"  // the id of the catalogue that gave the numbers
	HeaderFirst   = "Culprit-First"   // the number of the first event in the message
	HeaderLast    = "Culprit-Last"    // that of the last
	HeaderMachine = "Culprit-Machine" // of the machine that sends, see [MachineID]
)

// Bounds of a message of events.
const (
	messageBytes = 256 << 10 // of several events; one alone may have more
	headerBytes  = 1 << 10   // what the headers take of the servers' max_payload, at most
	ackTimeout   = 10 * time.Second
)

// Numbers are the events of this host, which wait in its catalogue.
type Numbers interface {
	// ID names the numbers: with another catalogue they begin anew.
	ID() string
	// Last is the last number that was given.
	Last() uint64
	// Renew gives the numbers another ID, because of another one that the stream has, which they remember.
	Renew(because string) error
	// RenewedFor is the other id because of which the numbers got theirs; "": they have their first.
	RenewedFor() string
	// Events calls take with those after a number that still wait.
	Events(ctx context.Context, after uint64, most int, take func(number uint64, line string) bool) error
}

// A Publisher sends the events of this host to the stream of the fleet, in order. It sends the next message only when the one
// before it is stored, and only behind that: what was sent twice is refused. After each failure it asks the stream how far it
// has come. It is an [outlet.Outlet].
type Publisher struct {
	conn    *Conn
	numbers Numbers
	machine string
	log     *slog.Logger

	asked     bool   // the stream said how far it has come
	taken     uint64 // the last event that it has
	sequence  uint64 // the place in the stream of our last message
	onRefused func(int64, string)
	ready     bell.Bell
}

// NewPublisher makes a Publisher. It does not wait for a server. The caller closes it, and then the connection.
func NewPublisher(c *Conn, numbers Numbers, machine string, log *slog.Logger) *Publisher {
	p := &Publisher{conn: c, numbers: numbers, machine: machine, log: log, onRefused: func(int64, string) {}, ready: bell.New()}
	connected := c.StatusChanged(nats.CONNECTED)
	closed := c.StatusChanged(nats.CLOSED)
	go func() {
		defer c.RemoveStatusListener(connected)
		for {
			select {
			case <-closed:
				return
			case <-connected:
			}
			p.ready.Ring()
		}
	}()
	return p
}

// MachineID names this machine without giving away its /etc/machine-id, which is a secret (man 5 machine-id).
func MachineID() (string, error) {
	id, err := os.ReadFile("/etc/machine-id")
	if err == nil && len(strings.TrimSpace(string(id))) < 32 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("tell this machine from others of its name: read /etc/machine-id: %w: systemd-machine-id-setup or dbus-uuidgen makes it", err)
	}
	sum := sha256.Sum256([]byte("culprit fleet " + strings.TrimSpace(string(id))))
	return hex.EncodeToString(sum[:16]), nil
}

// OnRefused makes f known, see [outlet.Refuser].
func (p *Publisher) OnRefused(f func(events int64, why string)) { p.onRefused = f }

// Ready receives when the host is connected again, see [outlet.Waiter].
func (p *Publisher) Ready() <-chan struct{} { return p.ready }

// Taken returns the last event that the stream has.
func (p *Publisher) Taken() uint64 { return p.taken }

// Close does nothing: what was sent is stored.
func (p *Publisher) Close(context.Context) error { return nil }

// Send sends events that the stream does not have.
func (p *Publisher) Send(ctx context.Context, events []outlet.Event) error {
	if !p.asked && len(events) > 0 {
		if err := p.ask(ctx); err != nil {
			return err
		}
	}
	for len(events) > 0 {
		if events[0].Sequence <= p.taken {
			events = events[1:]
			continue
		}
		n, size, together := 0, 0, messageBytes
		most := int(p.conn.MaxPayload()) - headerBytes
		if most > 0 {
			together = min(together, most)
		}
		for n < len(events) && (n == 0 || size+len(events[n].Line) <= together) {
			size += len(events[n].Line)
			n++
		}
		if most > 0 && size > most { // one alone
			p.onRefused(1, fmt.Sprintf("an event has %d bytes, and the servers take %d: raise max_payload in their configuration", size, most))
		} else if err := p.publish(ctx, events[:n]); err != nil {
			p.asked = false
			return err
		}
		p.taken = events[n-1].Sequence
		events = events[n:]
	}
	return nil
}

// publish sends one message, and waits until it is stored.
func (p *Publisher) publish(ctx context.Context, events []outlet.Event) error {
	var body strings.Builder
	for _, e := range events {
		body.WriteString(e.Line)
	}
	first, last := events[0].Sequence, events[len(events)-1].Sequence
	id := p.numbers.ID()
	m := nats.NewMsg(p.conn.Name.Subject(p.conn.Host))
	m.Data = []byte(body.String())
	m.Header.Set(HeaderOutbox, id)
	m.Header.Set(HeaderFirst, strconv.FormatUint(first, 10))
	m.Header.Set(HeaderLast, strconv.FormatUint(last, 10))
	m.Header.Set(HeaderMachine, p.machine)
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s:%s:%d-%d", p.conn.Host, id, first, last))
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	ack, err := p.conn.JS.PublishMsg(ctx, m, jetstream.WithExpectStream(p.conn.Name.Stream()), jetstream.WithExpectLastSequencePerSubject(p.sequence))
	switch {
	case err != nil:
		return fmt.Errorf("send events to the fleet: %w", withoutStream(err))
	case ack.Duplicate: // an attempt that seemed to fail
		return errors.New("send events to the fleet: the stream has them: asking how far it has come")
	}
	p.sequence = ack.Sequence
	return nil
}

// ErrOtherMachine says that another machine sends events under the name of this host.
var ErrOtherMachine = errors.New("another machine sends its events under this name: give each a name of its own (fleet.host); if it was replaced by this one, an operator types culprit fleet handover")

// ask asks the stream for the last message of this host.
func (p *Publisher) ask(ctx context.Context) error {
	m, err := p.conn.Last(ctx, p.conn.Name.Stream(), p.conn.Name.Subject(p.conn.Host))
	switch {
	case errors.Is(err, ErrNotFound):
		p.sequence, p.asked = 0, true // there is none, or it was too old
		return nil
	case errors.Is(err, ErrForged):
		p.log.Error("the last message of this host in the stream is not its own", "error", err)
		m.Header = nats.Header{headerSequence: m.Header[headerSequence]}
	case err != nil:
		return err
	}
	if err := p.isOurs(m); err != nil {
		return err
	}
	if p.sequence, err = Sequence(m); err != nil {
		return err
	}
	if err := p.compare(ctx, m); err != nil {
		return err
	}
	p.asked = true
	return nil
}

// compare learns from the last message of this machine which events the stream has. If its numbers are not of this catalogue, or
// not those that were given here, the numbers here get a name that nobody has used.
func (p *Publisher) compare(ctx context.Context, m *nats.Msg) error {
	switch m.Header.Get(HeaderOutbox) {
	case "":
		return nil
	case p.numbers.ID():
	case p.numbers.RenewedFor(): // nothing was stored since, or who answered does not have it yet: then the stream refuses what is sent
		return nil
	default:
		return p.numbers.Renew(m.Header.Get(HeaderOutbox))
	}
	last, err := strconv.ParseUint(m.Header.Get(HeaderLast), 10, 64)
	if err != nil {
		return fmt.Errorf("read how far the stream has come: %w", err)
	}
	again, err := p.givenAgain(ctx, last, m.Data)
	switch {
	case err != nil:
		return err
	case again:
		p.log.Warn("the evidence is an older copy of itself: its events get numbers of their own in the fleet")
		return p.numbers.Renew(m.Header.Get(HeaderOutbox))
	}
	p.taken = max(p.taken, last)
	return nil
}

// isOurs returns an error if the last message under our name is of another machine.
func (p *Publisher) isOurs(m *nats.Msg) error {
	if other := m.Header.Get(HeaderMachine); other != "" && other != p.machine {
		return fmt.Errorf("send events to the fleet as %s: %w", p.conn.Host, ErrOtherMachine)
	}
	return nil
}

// givenAgain reports whether the event with the last number in the stream is not the one that has this number here: the
// catalogue was restored from an older copy.
func (p *Publisher) givenAgain(ctx context.Context, last uint64, body []byte) (bool, error) {
	if last > p.numbers.Last() {
		return true, nil
	}
	again := false
	err := p.numbers.Events(ctx, last-1, 1, func(number uint64, line string) bool {
		again = number == last && !strings.HasSuffix(string(body), line)
		return false
	})
	return again, err
}
