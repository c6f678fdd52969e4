package daemon

import (
	"context"
	"errors"
	"testing"
)

// A part outlives the context that started it, and ends when it is stopped.
func TestPart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	broken := errors.New("broken")
	wait := start(ctx, withoutError(func(ctx context.Context) { <-ctx.Done() }))
	fails := start(ctx, func(context.Context) error { return broken })
	cancel()
	<-fails.ended
	select {
	case <-wait.ended:
		t.Error("it ended with the context")
	default:
	}
	if err := stop(wait, fails); !errors.Is(err, broken) {
		t.Errorf("stopped with %v", err)
	}
	<-wait.ended
}
