package evidence

import "time"

// writeEvery is the most time between two transactions, and writeShare how many times as long as a
// transaction took we wait for the next one. A single change is written at once, and so nearly is
// what follows it; but a flood, much of which changes the same traces and captures, makes a few large
// transactions. If we are killed, we lose what came in that time.
const (
	writeEvery = 50 * time.Millisecond
	writeShare = 10
)

// retryEvery is how often we try to write again after a failure, if nothing new comes.
const retryEvery = time.Second

// write writes what comes into the mailbox until that is closed.
func (s *Store) write() {
	defer close(s.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := time.NewTimer(retryEvery)
	defer retry.Stop()
	var kept *pending // of a transaction that failed
	for last := false; !last; {
		select {
		case <-s.mail.wake:
		case <-retry.C:
			if kept == nil {
				continue
			}
		}
		select {
		case <-timer.C:
		case <-s.mail.flood:
		}
		var next *pending
		next, last = s.mail.take()
		next = kept.then(next)
		begin := time.Now()
		err := s.catalogue.Write(next.Batch)
		timer.Reset(min(writeEvery, writeShare*time.Since(begin)))
		if err != nil {
			if kept == nil {
				s.log.Error("the catalogue cannot be written: hits are only counted; losses are recorded once it can be written again", "error", err)
			}
			s.failures.Add(1)
			kept = next.kept()
			retry.Reset(retryEvery)
			s.mail.dropped.Add(kept.Dropped() - next.Dropped())
			continue
		}
		if kept != nil {
			s.log.Info("the catalogue can be written again")
			kept = nil
		}
		if proven := next.Proven(); len(proven) > 0 {
			s.proven(proven)
		}
		for _, c := range next.settled {
			s.packer.Pack(c)
		}
	}
	if kept != nil {
		s.log.Error("culprit stops, and could not record some of what it found", "count", kept.Dropped()+uint64(kept.Size()+len(kept.settled)))
	}
}
