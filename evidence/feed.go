package evidence

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"culprit/evidence/catalogue"
	"culprit/evidence/outlet"
	"culprit/internal/event"
)

// A feed sends events to one destination: those of this machine, or those of its fleet. Without an outlet it does nothing.
type feed struct {
	outlet outlet.Outlet
	outbox *catalogue.Outbox
	sender *outlet.Sender
	// refused counts events that the destination will never take.
	refused atomic.Uint64
}

// start starts sending. lost is told of what the destination refuses.
func (f *feed) start(lost func(event.Loss), code event.LossCode, log *slog.Logger) {
	if f.outlet == nil {
		return
	}
	if r, ok := f.outlet.(outlet.Refuser); ok {
		r.OnRefused(func(events int64, why string) {
			f.refused.Add(uint64(events))
			log.Error("events were refused for good", "count", events, "error", why)
			lost(event.NewLoss(code, "", uint64(events)))
		})
	}
	f.sender = outlet.NewSender(f.outlet, f.outbox, log)
}

// counts returns how many events wait, and how many had no room.
func (f *feed) counts() (waiting int64, lost uint64) {
	if f.outbox == nil {
		return 0, 0
	}
	return f.outbox.Waiting(), f.outbox.Lost()
}

// outboxes are those of the feeds that there are.
func (s *Store) outboxes() (all []*catalogue.Outbox) {
	for _, f := range []*feed{&s.events, &s.fleet} {
		if f.outbox != nil {
			all = append(all, f.outbox)
		}
	}
	return all
}

// closeFeeds sends what waits, unless that takes too long.
func (s *Store) closeFeeds() {
	var all sync.WaitGroup
	for _, f := range []*feed{&s.events, &s.fleet} {
		if f.sender != nil {
			all.Go(f.sender.Close)
		}
	}
	all.Wait()
}
