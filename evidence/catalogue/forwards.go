package catalogue

import (
	"iter"
	"slices"
	"time"

	"culprit/internal/event"
)

// ForwardedBy yields the hits of packets in which forwarders sent on what a hit asked, or may have.
func (r *Reader) ForwardedBy(h *event.Hit) iter.Seq2[event.Hit, error] {
	return func(yield func(event.Hit, error) bool) {
		if h.Culprit.ForwardedFrom != nil {
			return
		}
		host := ""
		if h.Host != nil {
			host = h.Host.Name
		}
		for by, err := range r.Forwards(h.Timestamp.Add(-time.Second), h.Timestamp.Add(time.Minute), host) {
			isFor := slices.ContainsFunc(by.Culprit.For(), func(f *event.Forwarded) bool { return f.ID == h.Event.ID })
			if (err != nil || isFor) && !yield(by, err) {
				return
			}
		}
	}
}

// Forwards yields the hits of packets in which forwarders sent on what others asked, from since
// until until, or to the end if until is zero; of a fleet only those of one host.
func (r *Reader) Forwards(since, until time.Time, host string) iter.Seq2[event.Hit, error] {
	return func(yield func(event.Hit, error) bool) {
		for h, err := range r.Hits(Filter{alone: true, Since: since, until: until, Host: host}) {
			if (err != nil || len(h.Culprit.For()) > 0) && !yield(h, err) {
				return
			}
		}
	}
}
