package story

import (
	"errors"
	"iter"
	"math"
	"slices"
	"time"
)

// source is a trace that is read.
type source struct {
	Trace
	*kin
	doubles map[int64]Place // lines of calls that an earlier trace shows, and where
}

// open reads all traces once. It leaves out those that cannot be read.
func open(of Of) (sources []*source, failed error) {
	last := of.Hits[len(of.Hits)-1]
	known := newCalls()
	for _, t := range of.Traces {
		s := &source{t, newKin(of.Hits, t.Trace), map[int64]Place{}}
		its, err := s.learnAll(known, sent(last).Add(follow))
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		known.addAll(its)
		sources = append(sources, s)
	}
	return sources, failed
}

// learnAll reads a trace: who started whom, and which calls are known already. It returns those of a look-back: two straces are not
// on a process at once. If the trace cannot be read, others may still show what it shows.
func (s *source) learnAll(known *calls, until time.Time) (*calls, error) {
	its, taken := newCalls(), newCalls()
	latest := map[int]made{} // by thread
	double := func(m *made, ended time.Time) {
		if was, ok := known.take(m, ended); ok {
			taken.add(&was)
			s.doubles[m.place.Line] = was.place
			m.place = was.place
		}
	}
	for l, err := range s.lines(until) {
		if err != nil {
			known.addAll(taken)
			return nil, err
		}
		s.learn(l)
		if s.Culprit.LookBack != nil {
			m := l.made()
			double(&m, m.at)
			its.add(&m)
			continue
		}
		if m, ok := latest[l.tid]; ok {
			delete(latest, l.tid)
			double(&m, l.at)
		}
		if known.mayHave(l) && len(latest) < maxForks {
			latest[l.tid] = l.made()
		}
	}
	for _, m := range latest {
		double(&m, time.Unix(math.MaxInt32, 0))
	}
	s.leader = s.process(s.sender)
	return its, nil
}

// merge calls look with the lines of all traces by time, with each call once.
func merge(sources []*source, until time.Time, look func(*line)) (failed error) {
	type reader struct {
		next func() (*line, error, bool)
		line *line
	}
	var readers []*reader
	advance := func(r *reader) {
		for {
			l, err, ok := r.next()
			if err != nil {
				failed = errors.Join(failed, err)
			}
			if r.line = l; !ok || err != nil {
				readers = slices.DeleteFunc(readers, func(other *reader) bool { return other == r })
				return
			}
			if _, double := l.from.doubles[l.number]; !double {
				return
			}
		}
	}
	for _, s := range sources {
		next, stop := iter.Pull2(s.lines(until))
		defer stop()
		r := &reader{next: next}
		readers = append(readers, r)
		advance(r)
	}
	for len(readers) > 0 {
		first := readers[0]
		for _, r := range readers[1:] {
			if r.line.shown.Before(first.line.shown) {
				first = r
			}
		}
		look(first.line)
		advance(first)
	}
	return failed
}

// clocks is how far the times of a look-back may be from those of strace: they are of another clock.
const clocks = 200 * time.Microsecond

// calls are those of look-backs, which strace may have seen, too.
type calls struct {
	of    map[call][]made // by time
	last  time.Time
	count int
}

type call struct {
	tid    int
	name   string
	result int64
}

// made is a call that was made, or the end of a thread. The time is that of its line.
type made struct {
	call
	at    time.Time
	place Place
}

func newCalls() *calls { return &calls{of: map[call][]made{}} }

func (l *line) made() made {
	m := made{call{l.tid, l.name, 0}, l.at, l.place()}
	if l.name != "" {
		m.result = l.returned()
	}
	return m
}

func (c *calls) add(m *made) {
	if c.count < maxForks {
		c.count++
		c.of[m.call] = append(c.of[m.call], *m)
	}
}

func (c *calls) addAll(more *calls) {
	for key, all := range more.of {
		all = append(c.of[key], all...)
		slices.SortStableFunc(all, func(a, b made) int { return a.at.Compare(b.at) })
		if c.of[key] = all; all[len(all)-1].at.After(c.last) {
			c.last = all[len(all)-1].at
		}
	}
}

// mayHave reports whether a call may be known. Whoever waits for the end of a thread learns it later.
func (c *calls) mayHave(l *line) bool {
	return len(c.of) > 0 && (l.name == "" || !l.at.After(c.last.Add(clocks)))
}

// take removes a call that is known, and returns it as it is shown. A thread makes one at a time, so it is the one that returned between its begin and the next
// line of the thread. How long strace says that it took is less: that leaves out what strace did itself.
func (c *calls) take(m *made, ended time.Time) (was made, known bool) {
	began := m.at
	if m.name == "" {
		began = time.Time{}
	}
	all := c.of[m.call]
	for len(all) > 0 && (all[0].at.Before(began.Add(-clocks)) || len(all) > 1 && all[0].at.Before(began) && !all[1].at.After(ended)) {
		all = all[1:]
	}
	if c.of[m.call] = all; len(all) == 0 || all[0].at.After(ended.Add(clocks)) {
		return made{}, false
	}
	c.of[m.call] = all[1:]
	return all[0], true
}
