// Command culprit finds the program behind suspicious network packets: when a firewall rule
// matches, it attaches strace to the processes of the user who sent the packet.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/text"
)

// version and commit are set by the linker.
var version, commit = "dev", "unknown"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit statuses.
const (
	exitOK      = 0
	exitTrouble = 1
	exitUsage   = 2 // wrong arguments or configuration: nothing was done
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func run(args []string, stdout, stderr io.Writer) int {
	unix.Umask(0o077) // whatever we write holds the data of others
	ctx, stop := signalContext()
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	out := &checkedWriter{w: stdout}
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.err
	}
	var bad *config.Error
	var status exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &bad):
		fmt.Fprintln(stderr, bad)
		return exitUsage
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, new(usageError)):
		fmt.Fprintf(stderr, "culprit: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "culprit: %v\n", err)
	return exitTrouble
}

// checkedWriter remembers that a write failed, which most printing code does not check.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("write the output: %w", err)
	}
	return n, err
}

// unchecked returns the writer below a checked one, which may be a terminal.
func unchecked(w io.Writer) io.Writer {
	if c, ok := w.(*checkedWriter); ok {
		return c.w
	}
	return w
}

// sameSignal is how soon a second signal counts as the first: a terminal and the program that
// started us may both send one.
const sameSignal = 50 * time.Millisecond

// signalContext returns a context that the first SIGINT or SIGTERM ends. The second one ends
// the program at once; its straces die with it, which detaches them.
func signalContext() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case s := <-signals:
				if !first.IsZero() && time.Since(first) > sameSignal {
					os.Exit(128 + int(s.(syscall.Signal)))
				}
				if first.IsZero() {
					first = time.Now()
				}
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "culprit",
		Short: "Find the program behind suspicious network packets",
		Long: `culprit finds the program behind suspicious network packets. Firewall rules log the
packets that match. Each one starts strace on the processes of the user that sent it.
Packets and traces are kept together as evidence.

Start here:          culprit doctor; culprit selftest; culprit run -c config.example.yaml
Watch it hunt:       culprit watch
See what it found:   culprit hits; culprit captures; culprit traces; culprit show ID
Search the traces:   culprit grep PATTERN
Show it to others:   culprit report ID; culprit export ID
Without a firewall:  culprit trace --user web1 --number 5`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q (see `culprit --help`)", args[0])}
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see `%s --help`)", err, cmd.CommandPath())}
	})
	root.AddCommand(newRun(), newCheck(), newDoctor(), newRules(), newTrace(),
		newWatch(), newServe(), newHits(new(evidenceFlags)), newCaptures(new(evidenceFlags)), newTraces(new(evidenceFlags)), newLosses(new(evidenceFlags)), newShow(), newGrep(new(evidenceFlags)), newProve(),
		newLists(), newFleet(), newReport(), newExport(), newVerify(), newPrune(), newVersion(), newSelftest(), newGate(), newThaw(), newFetch(), newOffender(), newMan())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "culprit %s (commit %s, %s %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// noArgs refuses arguments as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q (see `%s --help`)", args[0], cmd.CommandPath())}
	}
	return nil
}

// configFlag adds -c with the given default.
func configFlag(cmd *cobra.Command, path *string, value string) {
	cmd.Flags().StringVarP(path, "config", "c", value, "configuration `file`")
}

// needRoot returns an error that says why a command needs root.
func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root: try `sudo %s`", what, text.Quote(os.Args))
	}
	return nil
}
