package capture

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"culprit/capture/gate"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// fakeStarts stop nobody.
type fakeStarts struct {
	sets  chan []uint32
	fails chan error // what Hold returns, if there is anything
	next  chan Start
	wake  chan struct{}
}

func (s fakeStarts) Hold(uids []uint32) error {
	s.sets <- slices.Clone(uids)
	select {
	case err := <-s.fails:
		return err
	default:
		return nil
	}
}

func (s fakeStarts) Next() (Start, error) {
	select {
	case n := <-s.next:
		return n, nil
	case <-s.wake:
		return Start{}, errors.New("woken")
	}
}

func (s fakeStarts) Wake()          { close(s.wake) }
func (s fakeStarts) Unheld() uint64 { return 0 }

// gateNews notes what a keeper says.
type gateNews chan string

func (gateNews) Held(gate.Held)        {}
func (gateNews) Gone(time.Duration)    {}
func (n gateNews) Down(err error)      { n <- err.Error() }
func (n gateNews) Marked(string)       { n <- "marked" }
func (n gateNews) Counted(gate.Counts) {}

// What holds programs by the kernel follows the captures, asks again after a failure, passes on who
// is held, and leaves nothing attached.
func TestHolder(t *testing.T) {
	t.Parallel()
	s := fakeStarts{make(chan []uint32, 10), make(chan error, 1), make(chan Start), make(chan struct{})}
	started := make(chan Start, 1)
	h := newHolder(s, func(n Start) { started <- n })
	ctx, cancel := context.WithCancel(t.Context())
	news, ended := make(gateNews, 10), make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(ctx, news)
	}()
	wants := func(uids ...uint32) {
		t.Helper()
		if got := <-s.sets; !slices.Equal(got, uids) {
			t.Errorf("the users are %v, want %v", got, uids)
		}
	}
	says := func(want string) {
		t.Helper()
		if got := <-news; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
	h.Watch([]uint32{1})
	wants(1)
	says("marked")
	h.Watch([]uint32{1, 2})
	wants(1, 2)
	h.Watch(nil)
	wants()
	s.fails <- errors.New("no")
	h.Watch([]uint32{3})
	wants(3)
	says("no")
	wants(3) // again
	says("marked")
	s.next <- Start{Hold: 7}
	if n := <-started; n.Hold != 7 {
		t.Errorf("started %+v", n)
	}
	cancel()
	<-ended
	wants()
}

// kernelStops are holds of the kernel whose processes were left.
type kernelStops struct {
	noStops
	left         []proc.ID
	reconsidered int
}

func (*kernelStops) Holds(uint64) bool { return true }
func (s *kernelStops) Reconsider()     { s.reconsidered++ }
func (s *kernelStops) Leave(id proc.ID, uid uint32, cgroup uint64) {
	if uid == 33 && cgroup == 77 {
		s.left = append(s.left, id)
	}
}

// A process that is refused is left, and of a fork its parent: its next children do not stop.
func TestLeave(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]int{event.FoundFork: 2, event.FoundExec: 1, event.FoundUID: 1, event.FoundPacket: 0} {
		stops := new(kernelStops)
		c := &Controller{stops: stops}
		f := found{hold: 1, cgroup: 77}
		f.ID, f.How, f.Parent = proc.ID{PID: 5, Start: 6}, how, &event.Process{EntityID: proc.ID{PID: 3, Start: 4}.String()}
		f.UID = 33
		c.leave(f)
		if len(stops.left) != want {
			t.Errorf("%s: left %v, want %d", how, stops.left, want)
		}
	}
}

// Who was refused may be wanted when another capture begins or one may take more, and not because of any other hit.
func TestReconsider(t *testing.T) {
	t.Parallel()
	c, _ := deciding(config.ScopeUser)
	stops := new(kernelStops)
	c.stops = stops
	for i, want := range []int{1, 1, 2, 3} { // the last one raises the level
		from(33, []string{"a", "a", "b", "a"}[i]).handle(c)
		if stops.reconsidered != want {
			t.Errorf("after %d hits it was reconsidered %d times, want %d", i+1, stops.reconsidered, want)
		}
	}
}
