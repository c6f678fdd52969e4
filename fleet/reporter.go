package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"culprit/internal/bell"
)

// Times of a status.
const (
	statusPause = time.Second      // between two, at least
	statusRetry = 10 * time.Second // after one that failed: it may be the first to say something
	statusLast  = 2 * time.Second  // for the one that says that the host stops
)

// A Reporter says how this host is: at the start, when something changes, each [StatusEvery], and that it stops. Safe for
// concurrent use.
type Reporter struct {
	conn *Conn
	log  *slog.Logger
	// counts fills in what changes all the time.
	counts func(*Status)

	mu      sync.Mutex
	status  Status
	changed bell.Bell
}

// NewReporter makes a Reporter; counts is asked before each report.
func NewReporter(c *Conn, s Status, counts func(*Status), log *slog.Logger) *Reporter {
	return &Reporter{conn: c, log: log, counts: counts, status: s, changed: bell.New()}
}

// Change changes what the host says, and has it said soon.
func (r *Reporter) Change(change func(*Status)) {
	r.mu.Lock()
	change(&r.status)
	r.mu.Unlock()
	r.changed.Ring()
}

// Run reports until the context ends.
func (r *Reporter) Run(ctx context.Context) {
	connected := r.conn.StatusChanged(nats.CONNECTED)
	defer r.conn.RemoveStatusListener(connected)
	again := time.NewTicker(StatusEvery)
	defer again.Stop()
	failing := ""
	for {
		var retry <-chan time.Time
		if r.conn.IsConnected() {
			err := r.report(ctx, false)
			if err != nil {
				retry = time.After(statusRetry)
			}
			if why := fmt.Sprint(err); err != nil && why != failing && ctx.Err() == nil {
				r.log.Warn("the fleet does not learn how this host is", "error", err)
				failing = why
			} else if err == nil {
				failing = ""
			}
		}
		select {
		case <-time.After(statusPause):
		case <-ctx.Done():
		}
		select {
		case <-r.changed:
		case <-connected:
		case <-again.C:
		case <-retry:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusLast)
			defer cancel()
			if r.conn.IsConnected() {
				if err := r.report(last, true); err != nil {
					r.log.Debug("the fleet does not learn that this host stops", "error", err)
				}
			}
			return
		}
	}
}

func (r *Reporter) report(ctx context.Context, stopped bool) error {
	hosts := r.conn.Name.Hosts()
	m, err := r.conn.Last(ctx, hosts.Stream(), hosts.Subject(Token(r.conn.Host)))
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrForged) {
		return err
	}
	r.mu.Lock()
	s := r.status
	r.mu.Unlock()
	if m != nil && err == nil {
		if there, err := ReadStatus(r.conn.Host, m.Data); err == nil && there.Machine != s.Machine && !there.Stopped && time.Since(there.Time) < Silent {
			return fmt.Errorf("report as %s: %w", r.conn.Host, ErrOtherMachine)
		}
	}
	s.Time, s.Stopped = time.Now().UTC(), stopped
	r.counts(&s)
	most := MaxStatus
	if taken := int(r.conn.MaxPayload()) - headerBytes; taken > 0 {
		most = min(most, taken)
	}
	body, err := s.fit(most)
	if err != nil {
		return err
	}
	return r.conn.Put(ctx, hosts, Token(r.conn.Host), body)
}
