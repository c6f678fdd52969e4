package capture

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"culprit/capture/tracer"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
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

// The controller waits neither for the finder, nor for the gate, nor for a tracer: here none of
// them runs.
func TestControllerWaitsForNobody(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Capture.Gate = config.GateAuto
	m := &memory{captures: map[string]event.Capture{}}
	k := New(&c, strace.Program{}, m, nil, nil, slog.New(slog.DiscardHandler))
	tracer := tracer.New(tracer.Tools{}, tracer.Job{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range uint64(10_000) {
			hit{&event.Hit{User: &event.User{ID: "64000000"}}}.handle(k)
			k.settle(time.Now())
			k.aim()
			k.letGo(i)
			tracer.Detach(event.Ended{Code: event.EndedStopped})
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits")
	}
	if len(m.hits) != 10_000 {
		t.Errorf("%d hits", len(m.hits))
	}
}
