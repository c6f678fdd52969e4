package mirror

import (
	"context"
	"fmt"
	"time"

	"culprit/evidence/catalogue"
	"culprit/fleet"
)

// lookEvery is how often Await looks.
const lookEvery = 50 * time.Millisecond

// Await waits until a mirror that somebody else keeps has all that is in the stream now, or the context ends. It
// returns how many messages are missing then.
func Await(ctx context.Context, c *fleet.Conn, dir string) (behind uint64, err error) {
	stream, err := c.JS.Stream(ctx, c.Name.Stream())
	if err != nil {
		return 0, fmt.Errorf("look how far the fleet is: %w", err)
	}
	info := stream.CachedInfo()
	last, err := lastOf(ctx, c, info.State)
	if err != nil {
		return 0, err
	}
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		mirrors, err := r.Mirrors()
		if err != nil {
			return 0, err
		}
		behind = last
		for _, p := range mirrors {
			if p.Stream == c.Name.Stream() && p.Created.Equal(info.Created) {
				behind = last - min(last, p.Sequence)
			}
		}
		if behind == 0 {
			return 0, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return behind, nil
		}
	}
}
