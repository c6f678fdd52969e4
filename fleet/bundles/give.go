// Package bundles brings bundles of captures, with their traces, from the hosts of a fleet to whoever looks: on
// request, or by a rule of the host's configuration. A host gives only captures that have ended.
package bundles

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/during"
	"culprit/internal/event"
	"culprit/internal/text"
)

// ObjectName is what the bundle of a capture is called in the store of its host.
func ObjectName(capture string) string { return capture + ".tar.zst" }

// Times and bounds of a Giver.
const (
	lookEvery   = 5 * time.Second    // for captures that have ended
	settles     = 5 * time.Second    // after the end of a capture: its last proofs
	lookBack    = 7 * 24 * time.Hour // how old captures may be that are given by rule
	overlap     = time.Minute        // of two looks: how late the catalogue may have a capture
	lateProof   = time.Minute        // after the end of a capture
	retryWait   = 30 * time.Second   // after a failure
	maxRefusals = 20                 // that a host tells
	giveTimeout = 30 * time.Minute   // for one bundle
)

// A Giver gives bundles of this host. All its work is done in idle time of processor and disk.
type Giver struct {
	Conn *fleet.Conn
	Dir  string // the evidence
	Rule string // one of config.Bundles…
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
	err = g.give(ctx, id)
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

// byRule gives the captures that the configuration says. What has no room is tried again once there is.
func (g *Giver) byRule(ctx context.Context) error {
	if g.Rule == config.BundlesRequest || time.Now().Before(g.again) {
		return nil
	}
	due, err := g.due(ctx)
	if err != nil || len(due) == 0 {
		return err
	}
	left := int64(0)
	if len(g.needs) > 0 {
		if left, _, err = g.Conn.Room(ctx, g.bucket()); err != nil {
			return err
		}
	}
	for _, id := range due {
		needs, told := g.needs[id]
		if needs > left {
			g.again = time.Now().Add(retryWait)
			continue
		}
		err := g.give(ctx, id)
		var why refusal
		switch {
		case errors.As(err, &why):
			if !told {
				g.Log.Warn("a bundle of a capture is not given", "capture", id, "reason", why.why)
			}
			if !why.full {
				break
			}
			g.again = time.Now().Add(retryWait)
			if g.needs[id] == 0 {
				return nil
			}
			continue
		case errors.Is(err, errNotEnded):
			continue
		case err != nil:
			return err
		}
		g.given[id] = true
		g.close(id)
	}
	return nil
}

// bucket is the store of bundles of this host.
func (g *Giver) bucket() string { return g.Conn.Name.Bundles(g.Conn.Host) }

// ended reports whether nothing is added to a capture any more.
func ended(c *event.Capture) bool {
	switch c.Culprit.State {
	case event.StateEnded:
		return c.Event.End == nil || time.Since(*c.Event.End).Abs() > settles
	case event.StateLost:
		return true
	}
	return false
}

// give puts the bundle of a capture into the store of this host, unless it is there.
func (g *Giver) give(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, giveTimeout)
	defer cancel()
	bucket := g.bucket()
	switch _, err := g.Conn.Last(ctx, "OBJ_"+bucket, "$O."+bucket+".M."+base64.URLEncoding.EncodeToString([]byte(ObjectName(id)))); {
	case err == nil:
		return nil
	case !errors.Is(err, fleet.ErrNotFound):
		return err
	}
	f, digest, err := g.pack(ctx, id)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := g.room(ctx, id, f); err != nil {
		return err
	}
	err = g.Conn.PutObject(ctx, bucket, jetstream.ObjectMeta{Name: ObjectName(id), Metadata: map[string]string{"manifest": digest}}, f)
	if errors.Is(err, fleet.ErrFull) {
		g.needs[id] = 0
		return refusal{why: fmt.Sprintf("the servers take no more (%v): see the limits of the fleet's account, and of OBJ_%s", err, bucket), full: true}
	}
	if err != nil {
		return err
	}
	g.Log.Info("the fleet has a bundle", "capture", id)
	return nil
}

// room refuses a bundle for which the store has none.
func (g *Giver) room(ctx context.Context, id string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the bundle of %s: %w", id, err)
	}
	left, most, err := g.Conn.Room(ctx, g.bucket())
	needs := fleet.Stored(info.Size())
	if err != nil || needs <= left {
		return err
	}
	why := fmt.Sprintf("it takes %s, and the store of bundles has %s free of %s: an operator makes it larger (nats stream edit OBJ_%s --max-bytes; of new hosts, culprit fleet init --bundle-bytes)",
		text.Size(needs), text.Size(max(0, left)), text.Size(most), g.bucket())
	if needs <= most {
		why += " or removes old ones"
		g.needs[id] = needs
	}
	return refusal{why: why, full: needs <= most}
}

// pack makes the bundle of a capture, in a file without a name.
func (g *Giver) pack(ctx context.Context, id string) (f *os.File, digest string, err error) {
	r, err := catalogue.OpenReader(g.Dir)
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	r = r.Within(ctx)
	found, err := r.Find(id)
	if err != nil || found.Capture == nil || found.Capture.Event.ID != id {
		return nil, "", refusal{why: "this host has no such capture, or not any more"}
	}
	if !ended(found.Capture) {
		return nil, "", errNotEnded
	}
	if f, err = os.CreateTemp(g.Dir, "bundle-*.tmp"); err == nil {
		err = os.Remove(f.Name())
	}
	if err != nil {
		return nil, "", fmt.Errorf("make a file for the bundle: %w", err)
	}
	digest, _, err = dossier.Export(r, during.Writer(ctx, f), found.Capture)
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("pack the capture %s: %w", id, err)
	}
	return f, digest, nil
}
