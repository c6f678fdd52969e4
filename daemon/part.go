package daemon

import (
	"context"
	"errors"
)

// A part runs on a goroutine of its own until it is stopped.
type part struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when the part has ended
	err    error         // why it ended; read it after that
}

// start starts a part. The end of the context does not stop it, because parts are stopped in
// order.
func start(ctx context.Context, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx)
	}()
	return p
}

// withoutError turns a function without an error into a part.
func withoutError(run func(context.Context)) func(context.Context) error {
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
