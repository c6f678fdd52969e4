// Package patience bounds how long somebody waits for what may never answer, as it is in the hands of others: a file
// system of FUSE, a server that is gone.
package patience

import (
	"sync"
	"time"
)

// Patience bounds how long somebody waits, and how many goroutines hang. The zero Patience is ready. Safe for concurrent use.
type Patience struct {
	mu   sync.Mutex
	busy map[string]int // by whose files are read
}

const (
	// Long is for what is root's: long enough for a machine that is very busy.
	Long = time.Second
	// Short is for what is others', who may make us wait on purpose.
	Short = 100 * time.Millisecond

	maxBusyOf = 4  // who reads the files of one owner
	maxBusy   = 32 // owners
)

// Wait runs read, and waits until it is done, but not longer than the limit. It reports whether it is done; otherwise
// it may end later, or has not been run because too many of that owner hang.
func (p *Patience) Wait(of string, limit time.Duration, read func()) (done bool) {
	if !p.begin(of) {
		return false
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer p.end(of)
		read()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

func (p *Patience) begin(of string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy == nil {
		p.busy = map[string]int{}
	}
	n, known := p.busy[of]
	if n >= maxBusyOf || !known && len(p.busy) >= maxBusy {
		return false
	}
	p.busy[of]++
	return true
}

func (p *Patience) end(of string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[of]--; p.busy[of] == 0 {
		delete(p.busy, of)
	}
}
