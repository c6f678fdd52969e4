package evidence

// Counts are what a Store has done since it was opened.
type Counts struct {
	Waiting  int    // changes that are not written yet, in the mailbox
	Dropped  uint64 // hits, proofs and programs that could not be written, or not in time
	Failures uint64 // transactions that failed

	Proofs     uint64 // found, with certainty
	Probable   uint64 // … and not with certainty
	Uncompared uint64 // hits and system calls that were not compared with each other

	Unsent int64  // events that wait to be sent out
	Lost   uint64 // events that had no room while too many waited
}

// Counts returns what was done until now. Safe for concurrent use; it waits for nothing.
func (s *Store) Counts() Counts {
	c := Counts{Waiting: int(s.mail.waiting.Load()), Dropped: s.mail.dropped.Load(), Failures: s.failures.Load()}
	c.Proofs, c.Probable, c.Uncompared = s.prover.Counts()
	if s.outbox != nil {
		c.Unsent, c.Lost = s.outbox.Waiting(), s.outbox.Lost()
	}
	return c
}
