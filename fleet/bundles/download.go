package bundles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"culprit/evidence/directory"
	"culprit/fleet"
	"culprit/internal/text"
)

// download brings an object into a part, and goes on with what the part has of it. At the end the part has exactly the object, or it fails.
func (f *Fetcher) download(ctx context.Context, o fleet.Object, d *directory.Directory, p *part) error {
	if o.Size > f.Max {
		return f.tooLarge(fmt.Sprintf("the bundle %s has %s", o.Name, text.Size(o.Size)))
	}
	resumed := p.of(o) && p.head.Size > 0
	if !p.of(o) {
		if err := p.begin(o); err != nil {
			return err
		}
	}
	if room, err := f.room(d); err != nil {
		return err
	} else if o.Size-p.head.Size > room {
		return f.noRoom("the bundle "+o.Name, room)
	}
	if resumed {
		f.Told("%s of %s are here already: going on\n", text.Size(p.head.Size), text.Size(o.Size))
	}
	err := f.rest(ctx, o, p)
	if !errors.Is(err, fleet.ErrDamaged) {
		return err
	}
	if beginErr := p.begin(o); beginErr != nil {
		return beginErr
	}
	if !resumed {
		return err
	}
	return f.rest(ctx, o, p)
}

// rest reads the rest of an object, chunk by chunk. Servers that do not answer are waited for.
func (f *Fetcher) rest(ctx context.Context, o fleet.Object, p *part) error {
	for progress, told := time.Now(), false; p.head.Size < o.Size; {
		data, at, err := f.Conn.Chunk(ctx, o, p.head.At)
		switch {
		case err == nil && int64(len(data)) > o.Size-p.head.Size:
			return fmt.Errorf("get %s: %w: it is longer than its description says", o.Name, fleet.ErrDamaged)
		case err == nil:
			if err := p.add(data, at); err != nil {
				return err
			}
			progress, told = time.Now(), false
			continue
		case ctx.Err() != nil, errors.Is(err, fleet.ErrDamaged), errors.Is(err, fleet.ErrForged):
			return err
		case time.Since(progress) > f.Wait:
			return fmt.Errorf("%w; %s of %s are here: fetch again, and it goes on behind that", err, text.Size(p.head.Size), text.Size(o.Size))
		}
		if !told {
			f.Told("%s of %s are here, and the servers do not answer: trying again\n", text.Size(p.head.Size), text.Size(o.Size))
			told = true
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if got := fleet.Digest(p.sum); got != o.Digest {
		return fmt.Errorf("get %s: %w: it has the digest %s, its description says %.80q", o.Name, fleet.ErrDamaged, got, o.Digest)
	}
	return nil
}
