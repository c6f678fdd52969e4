package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"culprit/evidence"
	"culprit/internal/text"
)

func newWatch() *cobra.Command {
	var f evidenceFlags
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch hits, captures and traces as they come",
		Long: `Watch hits, captures, traces, proofs and losses as they come, until q or Ctrl-C.

In a terminal it is a screen with the captures, the latest hits and the latest
losses. Elsewhere, as in a pipe, it is a line for each new hit, proof and loss, for
each trace that starts or ends, and for each capture that starts, changes its level or ends.

It only reads the evidence, so it also works, and says so, while culprit does not run.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := f.directory()
			if err != nil {
				return err
			}
			r, err := evidence.OpenReader(dir)
			if err != nil {
				return err
			}
			defer r.Close()
			v := newView(r, dir)
			if t := openTerminal(cmd.OutOrStdout()); t != nil {
				defer t.close()
				return watchScreen(cmd.Context(), v, t)
			}
			return watchLines(cmd.Context(), v, cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	return cmd
}

// lookEvery is how often watch looks for news.
const lookEvery = 500 * time.Millisecond

// watchLines prints news as lines until ctx ends.
func watchLines(ctx context.Context, v *view, w io.Writer) error {
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

// watchScreen shows the view on a terminal until ctx ends or q is pressed.
func watchScreen(ctx context.Context, v *view, t *terminal) error {
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
				t.forget() // what the terminal made of the old picture
			case <-tick.C:
				drawn = true
			}
		}
	}
}
