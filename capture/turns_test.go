package capture

import (
	"context"
	"errors"
	"testing"
	"time"

	"culprit/internal/event"
)

// slowDisk is a Recorder whose disk hangs until it is told to go on.
type slowDisk struct {
	*memory
	goOn chan struct{}
}

func (d slowDisk) Hit(h *event.Hit) {
	<-d.goOn
	d.memory.Hit(h)
}

// A loop that is stuck does not answer, so that systemd's watchdog is not told that all is
// well; when it goes on it does.
func TestTurns(t *testing.T) {
	t.Parallel()
	disk := slowDisk{goOn: make(chan struct{})}
	k, _ := control(t, "guard: {never_users: [64991]}", func(k *Controller, m *memory) {
		disk.memory = m
		k.recorder = disk
	})
	turns := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return k.Turns(ctx)
	}
	if err := turns(30 * time.Second); err != nil {
		t.Errorf("a loop that turns: %v", err)
	}
	k.Hit(hitOf(t, "64991", 0))
	if err := turns(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a loop that is stuck: %v", err)
	}
	close(disk.goOn)
	if err := turns(30 * time.Second); err != nil {
		t.Errorf("a loop that turns again: %v", err)
	}
}
