// Package intake brings the signed sets of a fleet, and their lists, to a host. It watches, verifies and fetches; what is put in force
// is for the daemon to decide, by a [sets.Book].
package intake

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"culprit/fleet"
	"culprit/fleet/sets"
)

// An Intake watches the sets of a fleet.
type Intake struct {
	conn  *fleet.Conn
	trust sets.Trust
	dir   sets.Dir
	free  func() int64 // bytes of the disk to be left free
	log   *slog.Logger
	news  chan News
	want  chan []*sets.Set
	here  map[string]bool // the names of the places that are not told to be gone; watch has it
	seen  fleet.Seen      // what stood there last; watch has it
}

// News is what has become of a set on its way. Exactly one of Set, Refused, Gone and Fetched is set.
type News struct {
	Name string // of the place in the bucket; if the set is refused, others may have written it
	// Set was verified.
	Set    *sets.Set
	Signed sets.Signed
	// Refused says why what stands in that place is not believed.
	Refused *sets.Refusal
	// Gone says that the place was emptied, without a withdrawal that is signed.
	Gone bool
	// Fetched is a set whose lists are there, or are not: then Err says why.
	Fetched *sets.Set
	Err     error
}

// New makes an intake. What it fetches goes into dir.
func New(conn *fleet.Conn, t sets.Trust, dir sets.Dir, free func() int64, log *slog.Logger) *Intake {
	return &Intake{conn: conn, trust: t, dir: dir, free: free, log: log, news: make(chan News), want: make(chan []*sets.Set, 1), here: map[string]bool{}, seen: fleet.Seen{}}
}

// News returns what happens. Who does not read it makes the intake wait.
func (i *Intake) News() <-chan News { return i.news }

// Want says which sets' lists are to be fetched from now on, instead of those before. One goroutine calls it.
func (i *Intake) Want(all []*sets.Set) {
	select {
	case <-i.want: // nobody has looked at the last wish yet
	default:
	}
	i.want <- all
}

// Run watches until the context ends. Servers that are away are waited for.
func (i *Intake) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { i.watch(ctx); return nil })
	g.Go(func() error { i.fetch(ctx); return nil })
	return g.Wait()
}

// tell hands on news. It reports whether the context goes on.
func (i *Intake) tell(ctx context.Context, n News) bool {
	select {
	case i.news <- n:
		return true
	case <-ctx.Done():
		return false
	}
}

// A pause grows with each attempt that failed.
type pause struct{ last time.Duration }

const (
	pauseLeast = time.Second
	pauseMost  = time.Minute
)

// next returns how long to wait now.
func (p *pause) next() time.Duration {
	p.last = min(max(2*p.last, pauseLeast), pauseMost)
	return p.last
}

func (p *pause) reset() { p.last = 0 }
