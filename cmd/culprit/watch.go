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
		Short: "Show hits, captures and traces live",
		Long: `Show hits, captures, traces, proofs and losses live, until you press q or Ctrl-C.

A terminal shows a screen with the captures, the latest hits and the latest losses. In a
pipe, watch prints a line for each new hit, proof and loss, for each trace that starts or
ends, and for each capture that starts, changes its level or ends.

watch only reads the evidence. It also works while culprit is not running, and says so.`,
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
