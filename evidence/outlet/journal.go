package outlet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// A Journal sends each event to journald as an entry of its own. The identifier "culprit-events"
// tells them from the daemon's log.
type Journal struct{ taken uint64 }

// OpenJournal fails where there is no journald.
func OpenJournal() (*Journal, error) {
	if !journal.Enabled() {
		return nil, errors.New("events.journald: there is no journald here (/run/systemd/journal/socket): choose events.file")
	}
	return new(Journal), nil
}

// Send sends events.
func (j *Journal) Send(ctx context.Context, events []Event) error {
	for _, e := range events {
		// Not here: a journald that hangs blocks for ever.
		sent := make(chan error, 1)
		go func() {
			sent <- journal.Send(strings.TrimSuffix(e.Line, "\n"), journal.PriNotice, map[string]string{
				"SYSLOG_IDENTIFIER": "culprit-events",
				"CULPRIT_SEQUENCE":  strconv.FormatUint(e.Sequence, 10),
			})
		}()
		var err error
		select {
		case err = <-sent:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("send an event to journald: %w", err)
		}
		j.taken = e.Sequence
	}
	return nil
}

// Taken returns the last event that journald took.
func (j *Journal) Taken() uint64 { return j.taken }

// Close has nothing to do.
func (j *Journal) Close(context.Context) error { return nil }
