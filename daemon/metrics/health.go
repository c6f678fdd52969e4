package metrics

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// turnEvery is how often a loop is asked whether it turns. A loop that has not answered for
// stuckAfter counts as stuck.
const (
	turnEvery  = 5 * time.Second
	stuckAfter = 3 * turnEvery
)

// A Loop is a loop of the daemon that must turn. Turns waits until it has, or the context ends.
type Loop struct {
	Name  string
	Turns func(context.Context) error
}

// health knows when each loop last turned. Reading that waits for nothing, because each loop is
// asked by its own goroutine, one question at a time.
type health struct {
	loops []Loop
	last  []atomic.Pointer[time.Time]
	since time.Time
	told  func(loop string, at time.Time)
}

func newHealth(loops []Loop, told func(string, time.Time)) *health {
	return &health{loops: loops, last: make([]atomic.Pointer[time.Time], len(loops)), since: time.Now(), told: told}
}

// run asks the loops until the context ends.
func (h *health) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for i, l := range h.loops {
		all.Go(func() {
			ticker := time.NewTicker(turnEvery)
			defer ticker.Stop()
			for l.Turns(ctx) == nil {
				now := time.Now()
				h.last[i].Store(&now)
				h.told(l.Name, now)
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// stuck names the loops that do not turn, or returns "".
func (h *health) stuck(now time.Time) string {
	var b strings.Builder
	for i, l := range h.loops {
		last := h.since
		if t := h.last[i].Load(); t != nil {
			last = *t
		}
		if ago := now.Sub(last); ago > stuckAfter {
			fmt.Fprintf(&b, "stuck: the loop of %s has not turned for %s\n", l.Name, ago.Round(time.Second))
		}
	}
	return b.String()
}

func (h *health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if why := h.stuck(time.Now()); why != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, why)
		return
	}
	fmt.Fprintln(w, "ok")
}
