package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/sensor/lookback"
)

// Bounds of look-backs.
const (
	maxBacklog = 8192 // hits that wait for theirs
	maxFollows = 1024 // files that are open, for what comes after the packet
	maxLatest  = 4096 // processes whose latest look-back is remembered
)

// follow is how long a look-back goes on after its packet: the answer, and what the process does
// with it.
const follow = time.Second

// lookbacks writes down what the senders of hits did before. One goroutine owns its state.
type lookbacks struct {
	recorder *lookback.Recorder
	evidence backEvidence
	hits     chan *event.Hit
	fs       proc.FS
	users    *proc.Users
	log      *slog.Logger

	lost  atomic.Uint64                // not recorded yet
	never atomic.Pointer[config.Guard] // whose users' calls are not written down, such as a parent's

	latest map[proc.ID]latest // by sender
	open   []*back            // oldest first
}

// backEvidence takes look-backs, which are traces.
type backEvidence interface {
	Create(*event.Trace) (io.WriteCloser, error)
	Back(h *event.Hit, trace string)
	Trace(event.Trace)
	Lost(event.Loss)
	Room() error
}

// latest is what the last look-back of a process has.
type latest struct {
	until uint64
	id    string
}

// openLookback attaches the recorder that the configuration wants. It returns nil if it wants none.
func openLookback(c *config.Config, log *slog.Logger) (*lookback.Recorder, error) {
	if len(c.Lookback.Users) == 0 {
		return nil, nil
	}
	r, err := lookback.Open(LookbackConfig(c))
	if err != nil {
		return nil, fmt.Errorf("lookback.users: %w: leave it empty to do without", err)
	}
	log.Info("the last system calls are kept in memory", "users", c.Lookback.Users, "memory", c.Lookback.Memory)
	return r, nil
}

// LookbackConfig returns what the configuration wants to be recorded.
func LookbackConfig(c *config.Config) lookback.Config {
	l := lookback.Config{Strings: c.Lookback.Strings, Memory: int(c.Lookback.Memory)}
	l.Users, l.All = c.Lookback.UIDs()
	return l
}

func newLookbacks(r *lookback.Recorder, e backEvidence, log *slog.Logger) *lookbacks {
	return &lookbacks{
		recorder: r, evidence: e, hits: make(chan *event.Hit, maxBacklog), fs: proc.Default, users: new(proc.Users), log: log,
		latest: map[proc.ID]latest{},
	}
}

// Hit takes a hit whose capture is known, or that has none. It never waits.
func (l *lookbacks) Hit(h *event.Hit) {
	if l == nil || !wanted(h) {
		return
	}
	select {
	case l.hits <- h:
	default:
		l.lost.Add(1)
	}
}

// wanted reports whether a hit gets a look-back. What a resolver did before says nothing of the
// program that asked it.
func wanted(h *event.Hit) bool {
	if why := h.Culprit.NoCapture; why != nil {
		switch why.Code {
		case event.NoCaptureNeverUsers, event.NoCaptureForwarded, event.NoCaptureResolver:
			return false
		}
	}
	return h.Process != nil && h.Owner() != nil
}

// run writes look-backs until the context ends.
func (l *lookbacks) run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	timer := time.NewTimer(follow)
	defer timer.Stop()
	for {
		select {
		case h := <-l.hits:
			l.write(h)
		case <-timer.C:
		case <-ctx.Done():
			for len(l.hits) > 0 {
				l.write(<-l.hits)
			}
			l.finish(len(l.open))
			return nil
		}
		due := max(0, len(l.open)-maxFollows)
		for due < len(l.open) && !time.Now().Before(l.open[due].close) {
			due++
		}
		l.finish(due)
		if n := l.lost.Swap(0); n > 0 {
			l.evidence.Lost(event.NewLoss(event.LossLookBacks, "", n))
		}
		if len(l.open) > 0 {
			timer.Reset(time.Until(l.open[0].close))
		}
	}
}

// asked is a hit whose look-back is to be written.
type asked struct {
	hit    *event.Hit
	more   []*event.Hit // of the same sender
	sender lookback.Sender
	before latest
}

// write writes the look-backs of a hit and of those that wait: the memory is read once for all.
func (l *lookbacks) write(h *event.Hit) {
	var all []asked
	for n := len(l.hits); ; n-- {
		id, ok := proc.ParseID(h.Process.EntityID)
		// One look-back has all that a process did until now, for all its hits.
		if at := slices.IndexFunc(all, func(a asked) bool { return a.sender.ID == id }); at >= 0 {
			all[at].more = append(all[at].more, h)
		} else if ok {
			a := asked{hit: h, sender: lookback.Sender{ID: id, After: l.latest[id].until}, before: l.latest[id]}
			for p := h.Process.Parent; p != nil; p = p.Parent {
				if parent, ok := proc.ParseID(p.EntityID); ok {
					a.sender.Parents = append(a.sender.Parents, parent)
				}
			}
			all = append(all, a)
		}
		if n == 0 {
			break
		}
		h = <-l.hits
	}
	if len(all) == 0 {
		return
	}
	for i, s := range l.stories(all) {
		if len(s.Events) == 0 { // of a user who is not recorded, or an earlier look-back has it all
			if h := all[i].hit; all[i].before.id == "" && s.TurnedOver && l.recorder.Records(h.Owner().UID()) {
				l.lost.Add(1) // or the memory had forgotten all of it
			}
			continue
		}
		if err := l.begin(all[i], s); err != nil {
			l.log.Error("a look-back cannot be written", "hit", all[i].hit.Event.ID, "error", err)
			l.lost.Add(1)
		}
	}
}

// stories reads what is in memory. A call that sent a packet may still be in progress: it is
// recorded when it returns.
func (l *lookbacks) stories(all []asked) []*lookback.Story {
	const tries, pause = 5, 2 * time.Millisecond
	var senders []lookback.Sender
	for _, a := range all {
		senders = append(senders, a.sender)
	}
	for i := 1; ; i++ {
		stories := l.read(senders)
		pending := false
		for i, s := range stories {
			sent := all[i].hit.Culprit.Sent
			pending = pending || sent != nil && all[i].sender.After == 0 && len(s.Events) > 0 && !s.Has(sent.TID, sent.Syscall, sent.Timestamp)
		}
		if !pending || i == tries {
			return stories
		}
		time.Sleep(pause)
	}
}

// read reads what is in memory, but for the users who are never traced.
func (l *lookbacks) read(senders []lookback.Sender) []*lookback.Story {
	stories := l.recorder.ReadAll(senders)
	if never := l.never.Load(); never != nil {
		for _, s := range stories {
			s.Without(func(uid uint32) bool {
				return slices.ContainsFunc(never.NeverUsers, func(u config.User) bool { return u.UID == uid })
			})
		}
	}
	return stories
}

// finish adds to the oldest look-backs what their processes did since, and closes them.
func (l *lookbacks) finish(n int) {
	if n == 0 {
		return
	}
	var senders []lookback.Sender
	for _, b := range l.open[:n] {
		senders = append(senders, b.sender)
	}
	for i, s := range l.read(senders) {
		l.close(l.open[i], s)
	}
	l.open = slices.Delete(l.open, 0, n)
}
