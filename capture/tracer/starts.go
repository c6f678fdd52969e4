package tracer

import "sync"

// starts counts the straces that were started and are not attached yet, so that work that
// can wait does not take the processor from them.
type starts struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n becomes 0
}

// begin notes that a strace is about to be started. Its end must be noted once.
func (s *starts) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 {
		s.none = make(chan struct{})
	}
	s.n++
}

// end notes that a strace has attached or ended.
func (s *starts) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if s.n == 0 {
		close(s.none)
	}
}

// over returns a channel that is closed when no strace is starting any more.
func (s *starts) over() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.none == nil { // none was ever started
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return s.none
}
