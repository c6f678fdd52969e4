package evidence

import (
	"time"
)

// writeEvery is how soon one transaction may follow another: a single change is written at
// once, but in a flood, of which changes of the same trace or capture are a good part, the
// disk sees a few large transactions instead of many small ones. If we are killed, so much
// is lost.
const writeEvery = 50 * time.Millisecond

// retryEvery is how soon what could not be written is tried again though nothing new
// is to be written.
const retryEvery = time.Second

// write writes what is put into the mailbox until that is closed.
func (s *Store) write() {
	defer close(s.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	var kept *pending // of what could not be written
	for last := false; !last; {
		select {
		case <-s.mail.wake:
		case <-retry.C:
			if kept == nil {
				continue
			}
		}
		<-timer.C
		var next *pending
		next, last = s.mail.take()
		next = kept.then(next)
		timer.Reset(writeEvery)
		err := s.catalogue.Write(next.Batch)
		if err != nil {
			if kept == nil {
				s.log.Error("the catalogue cannot be written: hits are only counted; losses are recorded once it can be written again", "error", err)
			}
			s.failures.Add(1)
			kept = next.kept()
			s.mail.dropped.Add(kept.Dropped() - next.Dropped())
			continue
		}
		if kept != nil {
			s.log.Info("the catalogue can be written again")
			kept = nil
		}
		for _, c := range next.settled {
			s.packer.Pack(c)
		}
	}
	if kept != nil {
		s.log.Error("culprit stops, and could not record some of what it found", "count", kept.Dropped()+uint64(kept.Size()+len(kept.settled)))
	}
}
