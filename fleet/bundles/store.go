package bundles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/fleet"
	"culprit/internal/during"
	"culprit/internal/event"
	"culprit/internal/text"
)

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

// give puts the bundle of a capture into the store of this host, unless it is there. One that somebody has deleted there is put there again only
// if somebody asks for it.
func (g *Giver) give(ctx context.Context, id string, asked bool) error {
	ctx, cancel := context.WithTimeout(ctx, giveTimeout)
	defer cancel()
	bucket := g.bucket()
	switch _, err := g.Conn.Find(ctx, bucket, ObjectName(id)); {
	case err == nil, errors.Is(err, fleet.ErrDeleted) && !asked:
		return nil
	case !errors.Is(err, fleet.ErrNotFound):
		return err
	}
	f, digest, err := g.pack(ctx, id)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the bundle of %s: %w", id, err)
	}
	upload, err := g.Conn.Upload(ctx, bucket, id, f, info.Size())
	if err != nil {
		return err
	}
	if err := g.room(ctx, id, fleet.Stored(info.Size()-upload.There())); err != nil {
		return err
	}
	if at := upload.There(); at > 0 {
		g.Log.Info("goes on giving a bundle that was interrupted", "capture", id, "bytes", info.Size(), "there", at)
	}
	err = upload.Put(ctx, jetstream.ObjectMeta{Name: ObjectName(id), Metadata: map[string]string{"manifest": digest}})
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
func (g *Giver) room(ctx context.Context, id string, needs int64) error {
	left, most, err := g.Conn.Room(ctx, g.bucket())
	if err == nil && needs > left {
		if err = g.clean(ctx, id, unseen); err == nil {
			left, most, err = g.Conn.Room(ctx, g.bucket())
		}
	}
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

// clean removes what interrupted uploads have left, if nobody has gone on with them for some time, but not that of one capture.
func (g *Giver) clean(ctx context.Context, but string, after time.Duration) error {
	n, err := g.Conn.RemoveLeftovers(ctx, g.bucket(), but, ObjectName, after)
	if n > 0 {
		g.Log.Info("removed what interrupted uploads of bundles have left on the servers", "count", n)
	}
	return err
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
	if err != nil && !errors.Is(err, catalogue.ErrUnknown) {
		return nil, "", err
	}
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
