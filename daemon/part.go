package daemon

import (
	"context"
	"errors"
)

// A part runs on a goroutine of its own until it is stopped.
type part struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when it has ended
	err    error         // why it ended; read it when it has
}

// start starts a part. It goes on when the context ends: parts are stopped in order.
func start(ctx context.Context, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx)
	}()
	return p
}

// quiet is a part that has no errors.
func quiet(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

// stop stops parts at the same time and waits until they have ended.
func stop(parts ...*part) error {
	for _, p := range parts {
		p.cancel()
	}
	var errs []error
	for _, p := range parts {
		<-p.ended
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}
