package bundles

import (
	"maps"
	"slices"
	"sync"
)

// maxProven is how many captures with proofs are remembered. If there are more, all are looked at.
const maxProven = 10_000

// Proofs are the captures that have got proofs which no [Giver] has looked at yet. Safe for concurrent use; a nil one has none.
type Proofs struct {
	mu       sync.Mutex
	captures map[string]bool
	many     bool
}

// Add adds captures whose proofs are in the catalogue now. It waits for nothing.
func (p *Proofs) Add(captures []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.captures == nil {
		p.captures = map[string]bool{}
	}
	for _, id := range captures {
		if len(p.captures) >= maxProven {
			clear(p.captures)
			p.many = true
		}
		p.captures[id] = true
	}
}

// take returns those that came since it was last called; many: and so many others that they were forgotten.
func (p *Proofs) take() (captures []string, many bool) {
	if p == nil {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	captures, many = slices.Collect(maps.Keys(p.captures)), p.many
	p.captures, p.many = nil, false
	return captures, many
}
