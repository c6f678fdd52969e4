package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"culprit/capture"
	"culprit/capture/finder"
	"culprit/capture/snapshot"
	"culprit/daemon"
	"culprit/evidence/directory"
	"culprit/internal/backlog"
	"culprit/internal/config"
	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/text"
	"culprit/internal/words"
)

type traceOptions struct {
	uid, user, container, out, config string
	number, strings                   int
	duration                          time.Duration
}

func newTrace() *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace {--uid N | --user NAME | --container NAME}",
		Short: "Strace the processes of a user, running and new, without any firewall",
		Long: `Strace the processes that a user runs now and those that it starts, up to --number, and
wait until they have ended. Each new one is held until strace is on it. The result is a
directory of trace files to grep:

  culprit trace --user web1 --number 5
  grep -r 'connect(' culprit-trace-web1-*/

With --container only processes in that container are traced: those of the user or, without
one, all. Otherwise it is the user's wherever they are.

A child is traced into the file of its parent. When --for is over, or on Ctrl-C,
strace detaches and the processes live on.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return trace(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.uid, "uid", "", "trace the user with this `UID`")
	f.StringVar(&o.user, "user", "", "trace the user with this `name`")
	f.StringVar(&o.container, "container", "", "trace only in the container with this `name or id`")
	f.IntVar(&o.number, "number", 5, "trace at most this many processes")
	f.DurationVar(&o.duration, "for", 10*time.Minute, "stop after this `time`")
	f.StringVar(&o.out, "out", "", "`directory` for the trace files (default culprit-trace-NAME-TIME)")
	f.IntVar(&o.strings, "strings", 65535, "longest string to print, in bytes (strace -s)")
	f.StringVarP(&o.config, "config", "c", "", "take limits, guards and capture.redact from this configuration `file` (default: built-in)")
	return cmd
}

func trace(ctx context.Context, o traceOptions, stdout, stderr io.Writer) error {
	if o.uid != "" && o.user != "" || o.uid+o.user+o.container == "" {
		return usageError{errors.New("give one of --uid and --user, or --container, or both")}
	}
	if o.number < 1 || o.duration <= 0 || o.strings < 0 {
		return usageError{errors.New("--number and --for must be positive, --strings must not be negative")}
	}
	owner := capture.Owner{UID: finder.AnyUser, Container: finder.Anywhere}
	var err error
	if name := o.user + o.uid; name != "" {
		user, err := config.ParseUser(name)
		if err != nil {
			return usageError{err}
		}
		owner.UID = user.UID
	}
	defaults := config.Default()
	c := &defaults
	if o.config != "" {
		if c, err = config.LoadToLook(o.config); err != nil {
			return err
		}
	}
	if err := needRoot("culprit trace"); err != nil {
		return err
	}
	var place event.Place
	if o.container != "" {
		if place, err = container.New(proc.Default).Named(o.container); err != nil {
			return err
		}
		owner.Container = place.Container.ID
	}
	program, err := strace.Find(ctx)
	if err != nil {
		return err
	}
	if o.out == "" {
		o.out = fmt.Sprintf("culprit-trace-%s-%s", text.FileName(cmp.Or(o.user+o.uid, o.container)), time.Now().Format("20060102-150405"))
	}
	dir, err := directory.Open(o.out)
	if err != nil {
		return err
	}
	defer dir.Close()
	dir.Redact(c.Capture.Redaction())

	// A terminal that was stopped with Ctrl-S holds up no strace, and no program.
	out, errs := unwaited(stdout), unwaited(stderr)
	defer out.Close(math.MaxInt64)
	defer errs.Close(math.MaxInt64)
	log := messages(errs)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	printer := &tracePrinter{Directory: dir, out: out, ended: stop}
	printer.start = fmt.Sprintf("%s, for at most %s", text.Plural(o.number, "process"), o.duration)
	holds, err := daemon.OpenHolds(c)
	if err != nil {
		return err
	}
	defer holds.Close()
	controller := capture.New(c, program, printer, daemon.Stops(holds), nil, log, "/proc/self/exe")
	var parts sync.WaitGroup
	parts.Go(func() { controller.Run(ctx) })
	parts.Go(func() { holds.Run(ctx, c.Capture.GateDeadline, controller.HoldsFailed) })
	if holds.CanHold() {
		select { // so that it holds the first program
		case <-holds.Leased():
		case <-time.After(2 * time.Second): // the controller says why
		case <-ctx.Done():
		}
	}
	if err = controller.Trace(owner, place, o.number, o.duration, o.strings); err != nil {
		stop()
	}
	parts.Wait()
	if err != nil {
		os.Remove(dir.Path()) // if it is empty
		return err
	}
	printer.summary()
	return nil
}

// unwaited returns a writer that nobody waits for, and that says which lines had no room.
func unwaited(w io.Writer) (b *backlog.Writer) {
	b = backlog.New(w, func(n int) { fmt.Fprintf(b, "… (%s not shown)\n", text.Plural(n, "line")) })
	return b
}

// tracePrinter tells the person at the terminal what happens. The controller calls it on one
// goroutine, except for Create.
type tracePrinter struct {
	*directory.Directory
	out   io.Writer
	start string // how many processes, for how long
	ended func()
	last  event.Capture
	kept  []event.Trace
}

// Hit is never called: no firewall is involved.
func (p *tracePrinter) Hit(*event.Hit) {}

// Room leaves the check to the file system, as somebody is waiting for these traces.
func (p *tracePrinter) Room() error { return nil }

// Snapshot is never called, nor is KeepExecutable: no packet is looked for, so nobody is frozen.
func (p *tracePrinter) Snapshot(event.Snapshot) {}

// KeepExecutable keeps nothing.
func (p *tracePrinter) KeepExecutable(io.Reader, int64) (string, event.File, *snapshot.Unkept) {
	return "", event.File{}, &snapshot.Unkept{Code: event.IncompleteOff}
}

// Program prints nothing: people want the traces.
func (p *tracePrinter) Program(event.Program) {}

func (p *tracePrinter) Capture(c event.Capture) {
	if p.last.Event.ID == "" {
		whose := c.Whose()
		if c.Container == nil {
			whose = "user " + whose
		}
		fmt.Fprintf(p.out, "tracing %s: %s; traces go to %s\n", text.Escape(whose), p.start, p.Path())
	}
	p.last = c
	if c.Culprit.State == event.StateEnded {
		p.ended()
	}
}

func (p *tracePrinter) Trace(t event.Trace) {
	for i := range p.kept {
		if p.kept[i].Event.ID == t.Event.ID {
			had := p.kept[i].Culprit.State == event.StateEnded
			p.kept[i] = t
			if t.Culprit.State == event.StateEnded && !had {
				fmt.Fprintf(p.out, "process %s: %s, %s\n", text.Escape(t.Process.String()), words.TraceEnded(t.Culprit.EndedBecause), text.Size(t.File.Size))
			}
			return
		}
	}
	p.kept = append(p.kept, t)
	fmt.Fprintf(p.out, "%s\n    # %s, %s -> %s\n", text.Quote(t.Culprit.Command), text.Escape(t.Process.String()), t.Culprit.Life(), filepath.Base(t.File.Path))
}

// summary prints what was kept and what was not. Call it when the controller has ended.
func (p *tracePrinter) summary() {
	fmt.Fprintf(p.out, "%s in %s (ended because %s)\n", text.Plural(len(p.kept), "trace"), p.Path(), words.CaptureEnded(p.last.Culprit.EndedBecause))
	for code, n := range p.last.Culprit.Missed {
		fmt.Fprintf(p.out, "%s not traced: %s\n", text.Plural(n, "process"), text.Escape(words.Missed(&p.last.Culprit, code)))
	}
	for _, what := range words.Unnoticed(&p.last.Culprit) {
		fmt.Fprintln(p.out, what)
	}
	if len(p.kept) > 0 {
		fmt.Fprintf(p.out, "search them: grep -r PATTERN %s\n", text.Quote([]string{p.Path()}))
	}
}
