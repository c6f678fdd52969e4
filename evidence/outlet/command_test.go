package outlet

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func command(t *testing.T, script string) (o *Command, out string) {
	t.Helper()
	out = filepath.Join(t.TempDir(), "out")
	o, err := OpenCommand([]string{"/bin/sh", "-c", script, "sh", out}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return o, out
}

// deliver sends all events, as a feed does, whatever becomes of the program, until they
// are taken.
func deliver(t *testing.T, o *Command, all []Event) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for rest := all; o.Taken() < uint64(len(all)); rest = nil {
		if time.Now().After(deadline) {
			t.Fatalf("only %d were taken in 30 s", o.Taken())
		}
		for o.Send(context.Background(), rest) != nil {
			rest = all[o.Taken():]
		}
	}
}

func closed(t *testing.T, o *Command, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return o.Close(ctx)
}

// A program that reads all gets all, and has read it when it is closed.
func TestCommand(t *testing.T) {
	t.Parallel()
	o, out := command(t, `cat >"$1"`)
	all := events(1, 5000)
	deliver(t, o, all)
	if err := closed(t, o, 30*time.Second); err != nil || o.Taken() != 5000 {
		t.Errorf("%d were taken, %v", o.Taken(), err)
	}
	if got := read(t, out); got != joined(all) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(joined(all)))
	}
}

// What a program has not read goes to the next one: nothing is lost or doubled.
func TestCommandThatEnds(t *testing.T) {
	t.Parallel()
	// The shell reads byte by byte, and so no more than it takes.
	o, out := command(t, `read -r a || exit; echo "$a" >>"$1"; read -r b || exit; echo "$b" >>"$1"; exit 3`)
	all := events(1, 40)
	deliver(t, o, all)
	if err := closed(t, o, 30*time.Second); err != nil {
		t.Error(err)
	}
	if got := read(t, out); got != joined(all) {
		t.Errorf("arrived:\n%s", got)
	}
}

// A program that does not read holds up nobody when the time is over, and does not
// count as having taken anything.
func TestCommandThatHangs(t *testing.T) {
	t.Parallel()
	o, _ := command(t, `exec sleep 1000`)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := o.Send(ctx, events(1, 5000)); err == nil {
		t.Error("a program that does not read took everything")
	}
	if err := closed(t, o, 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("closed with %v", err)
	}
	if o.Taken() != 0 {
		t.Errorf("%d were taken", o.Taken())
	}
}

func TestCommandMissing(t *testing.T) {
	t.Parallel()
	if _, err := OpenCommand([]string{"/no/such/program"}, slog.Default()); err == nil || !strings.Contains(err.Error(), "events.command") {
		t.Error(err)
	}
}
