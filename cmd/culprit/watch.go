package main

import (
	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/watch"
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
			r, err := catalogue.OpenReader(dir)
			if err != nil {
				return err
			}
			defer r.Close()
			return watch.Run(cmd.Context(), r, dir, unchecked(cmd.OutOrStdout()))
		},
	}
	f.add(cmd)
	return cmd
}
