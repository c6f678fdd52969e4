package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"culprit/internal/text"
	"culprit/selftest"
)

func newSelftest() *cobra.Command {
	var asJSON bool
	o := selftest.Options{Version: version}
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "Run a whole small hunt on this machine and say what works, and how fast",
		Long: `Run a whole small hunt on this machine, in a network namespace of its own: culprit
run with each installed backend of iptables, a resolver, and programs that send
queries; and for each way of the sensor, whether the kernel names the sender of the
very first packet, and stops it until strace is attached. It does not touch the machine's own firewall, leaves nothing behind, and
takes some seconds, on a busy machine a minute. The exit status is 1 if something does not work.

Put its output into a bug report.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needRoot("culprit selftest"); err != nil {
				return err
			}
			r, err := selftest.Run(cmd.Context(), o)
			switch {
			case r == nil:
				return err
			case asJSON:
				err = errors.Join(err, printJSON(cmd.OutOrStdout(), func(yield func(*selftest.Report, error) bool) { yield(r, nil) }))
			default:
				printSelftest(cmd.OutOrStdout(), r)
			}
			switch n := r.Failures(); {
			case err != nil:
				return err
			case cmd.Context().Err() != nil:
				return errors.New("interrupted: the checks above are not all")
			case n > 0:
				return fmt.Errorf("%s above", text.Plural(n, "failed check"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document with the names of the Elastic Common Schema")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "keep the evidence, the configurations and the logs, and say where")
	return cmd
}

// printSelftest prints a report for people.
func printSelftest(w io.Writer, r *selftest.Report) {
	for _, c := range r.Culprit.Checks {
		status := string(c.Status)
		if c.Status == selftest.Failed {
			status = "FAILED"
		}
		fmt.Fprintf(w, "%-8s  %-19s  %s\n", status, c.Name, text.Escape(c.Found))
		if c.Remedy != "" {
			fmt.Fprintf(w, "%29s  -> %s\n", "", text.Escape(c.Remedy))
		}
	}
	if len(r.Culprit.Log) > 0 {
		fmt.Fprintln(w, "\nfrom the daemon's log:")
		for _, line := range r.Culprit.Log {
			fmt.Fprintf(w, "  %s\n", text.Escape(line))
		}
	}
	if r.Culprit.Kept != "" {
		fmt.Fprintf(w, "\nthe evidence, configurations and logs are in %s\n", text.Escape(r.Culprit.Kept))
	}
	fmt.Fprintf(w, "\n%s; took %.1f s\n", text.Escape(r.Culprit.Versions.String()), r.Event.End.Sub(*r.Event.Start).Seconds())
}

// newOffender makes the command of the program that the self-test hunts.
func newOffender() *cobra.Command {
	var o selftest.Offender
	cmd := &cobra.Command{
		Use:    "offender",
		Short:  "Send a DNS query for the self-test that started this (not for people)",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(*cobra.Command, []string) error { return selftest.Offend(o, os.Stdin) },
	}
	cmd.Flags().StringVar(&o.Server, "server", "127.0.0.1", "address of the resolver")
	cmd.Flags().StringVar(&o.Transport, "transport", "udp", "udp or tcp")
	cmd.Flags().StringVar(&o.Label, "label", "x", "part of the name")
	cmd.Flags().BoolVar(&o.Stay, "stay", false, "live on until standard input ends")
	return cmd
}
