// Package bundles brings bundles of captures, with their traces, from the hosts of a fleet to whoever looks: on
// request, or by a rule of the host's configuration. A host gives only captures that have ended.
package bundles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"culprit/fleet"
	"culprit/internal/config"
)

// ObjectName is what the bundle of a capture is called in the store of its host.
func ObjectName(capture string) string { return capture + ".tar.zst" }

// Times and bounds of a Giver.
const (
	lookEvery   = 5 * time.Second    // for captures that have ended
	settles     = 5 * time.Second    // after the end of a capture: its last proofs
	lookBack    = 7 * 24 * time.Hour // how old captures may be that are given by rule
	overlap     = time.Minute        // of two looks: how late the catalogue may have a capture
	retryWait   = 30 * time.Second   // after a failure
	maxRefusals = 20                 // that a host tells
	giveTimeout = 30 * time.Minute   // for one bundle; the next try goes on behind it
	cleanEvery  = 6 * time.Hour      // look for what uploads have left
	abandoned   = 24 * time.Hour     // nobody goes on with such an upload
	unseen      = 5 * time.Minute    // a member of a cluster may not have the description of a bundle that long: then it looks unfinished
)

// A Giver gives bundles of this host. All its work is done in idle time of processor and disk.
type Giver struct {
	Conn *fleet.Conn
	Dir  string // the evidence
	Rule string // one of config.Bundles…
	// Proofs are those that come, for [config.BundlesProven].
	Proofs *Proofs
	// Changed changes what this host says of itself.
	Changed func(func(*fleet.Status))
	Log     *slog.Logger

	refused []fleet.Refusal
	looked  time.Time       // when captures were last looked for
	open    map[string]bool // captures that may be given by rule
	given   map[string]bool // captures of the last look that are known to be in the store, or are never given
	// needs is what bundles take for which the store had no room; 0: the servers said that there is none.
	needs map[string]int64
	again time.Time // when captures are given by rule again

	cleaned time.Time // when leftovers of uploads were last looked for
}

// refusal is why a capture is not given, for whoever asked.
type refusal struct {
	why  string
	full bool // the store: there may be room later
}

func (r refusal) Error() string { return r.why }

// errNotEnded says that a capture can be given later.
var errNotEnded = errors.New("the capture has not ended")

// Run gives bundles until the context ends.
func (g *Giver) Run(ctx context.Context) {
	if g.Rule == config.BundlesNever {
		return
	}
	// The thread ends with this goroutine, which never unlocks it.
	runtime.LockOSThread()
	idle()
	g.open, g.given, g.needs = map[string]bool{}, map[string]bool{}, map[string]int64{}
	for failing := ""; ctx.Err() == nil; {
		err := g.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if why := fmt.Sprint(err); why != failing {
			failing = why
			g.Log.Warn("bundles of captures do not reach the fleet: trying again", "error", err)
		}
		select {
		case <-time.After(retryWait):
		case <-ctx.Done():
		}
	}
}

// idle makes this thread work only when the machine has nothing else to do.
func idle() {
	const (
		whoThread = 1       // IOPRIO_WHO_PROCESS: a thread
		classIdle = 3 << 13 // IOPRIO_CLASS_IDLE (include/uapi/linux/ioprio.h)
	)
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoThread, uintptr(unix.Gettid()), classIdle)
}

// run answers requests, and looks for captures to give, until something fails.
func (g *Giver) run(ctx context.Context) error {
	consumer, err := g.Conn.JS.Consumer(ctx, g.Conn.Name.Requests().Stream(), fleet.Token(g.Conn.Host))
	if err != nil {
		return fmt.Errorf("ask who wants bundles of this host: %w: an operator makes the place for it with culprit fleet init --host %s", err, g.Conn.Host)
	}
	for {
		if time.Since(g.cleaned).Abs() > cleanEvery {
			if err := g.clean(ctx, "", abandoned); err != nil {
				return err
			}
			g.cleaned = time.Now()
		}
		if err := g.byRule(ctx); err != nil {
			return err
		}
		batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(lookEvery))
		if err != nil {
			return fmt.Errorf("ask who wants bundles of this host: %w", err)
		}
		for msg := range batch.Messages() {
			if err := g.answer(ctx, msg); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := batch.Error(); err != nil { // at once, as if it had been the time
			return fmt.Errorf("ask who wants bundles of this host: %w", err)
		}
	}
}

// answer gives the capture that somebody asked for, or says why not.
func (g *Giver) answer(ctx context.Context, msg jetstream.Msg) error {
	id := msg.Subject()[strings.LastIndexByte(msg.Subject(), '.')+1:]
	if fleet.Deleted(msg.Headers()) { // nobody asks any more
		return msg.Ack()
	}
	about, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read who wants a bundle of this host: %w", err)
	}
	err = g.give(ctx, id, true)
	var why refusal
	switch {
	case err == nil:
	case errors.As(err, &why):
		g.refuse(fleet.Refusal{Capture: id, Why: why.why, Request: about.Sequence.Stream})
	case errors.Is(err, errNotEnded):
		return msg.NakWithDelay(lookEvery)
	default:
		return errors.Join(err, msg.NakWithDelay(retryWait))
	}
	return msg.Ack()
}

func (g *Giver) refuse(r fleet.Refusal) {
	g.Log.Warn("the fleet asked for a bundle, and does not get it", "capture", r.Capture, "reason", r.Why)
	g.refused = append(slices.DeleteFunc(g.refused, func(old fleet.Refusal) bool { return old.Capture == r.Capture }), r)
	g.refused = g.refused[max(0, len(g.refused)-maxRefusals):]
	all := slices.Clone(g.refused)
	g.Changed(func(s *fleet.Status) { s.Refused = all })
}
