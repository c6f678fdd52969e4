// Package watch shows people what arrives in the evidence: on a screen in a terminal, as lines
// elsewhere. It only reads.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"culprit/evidence/catalogue"
	"culprit/internal/text"
)

// Run shows what arrives in the evidence in dir until ctx ends or q is pressed.
func Run(ctx context.Context, r *catalogue.Reader, dir string, out io.Writer) error {
	v := newView(r, dir)
	if t := openTerminal(out); t != nil {
		defer t.close()
		return showScreen(ctx, v, t)
	}
	return printLines(ctx, v, out)
}

// lookEvery is how often watch looks for news.
const lookEvery = 500 * time.Millisecond

// printLines prints news as lines until ctx ends.
func printLines(ctx context.Context, v *view, w io.Writer) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var broken error
		err := v.look(func(at time.Time, kind, what string) {
			if broken == nil {
				_, broken = fmt.Fprintf(w, "%s  %-8s %s\n", text.Time(at), kind, text.Escape(what))
			}
		})
		if err := errors.Join(err, broken); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showScreen shows the view on a terminal until ctx ends or q is pressed.
func showScreen(ctx context.Context, v *view, t *terminal) error {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := v.look(func(time.Time, string, string) {}); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		for drawn := false; !drawn; {
			width, height := t.size()
			if err := t.draw(frame(v, time.Now(), width, height)); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case key, open := <-t.keys:
				if !open || key == 'q' || key == 'Q' {
					return nil
				}
			case <-resized:
				t.forget() // the terminal has mangled the old picture
			case <-tick.C:
				drawn = true
			}
		}
	}
}
