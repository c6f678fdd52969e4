package snapshot

import "sync"

// places bounds how many processes are read at once. Those of one user get half of the places, as a
// user can make reading his processes hang for ever. Safe for concurrent use.
type places struct {
	mu    sync.Mutex
	taken map[string]int // by user
	all   int
}

// take takes a place, if there is one.
func (p *places) take(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= maxReading || p.taken[user] >= maxOfUser {
		return false
	}
	if p.taken == nil {
		p.taken = map[string]int{}
	}
	p.taken[user]++
	p.all++
	return true
}

// free frees a place.
func (p *places) free(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.taken[user]--; p.taken[user] == 0 {
		delete(p.taken, user)
	}
}
