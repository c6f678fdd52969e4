package main

import (
	"github.com/spf13/cobra"

	"culprit/daemon"
	"culprit/internal/config"
)

func newRun() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Hunt: install the firewall rules, capture on each hit, until stopped",
		Long: `Hunt until SIGINT or SIGTERM. Then the straces let go of their processes, the
firewall rules are removed, and the exit status is 0. A second signal ends at once.

SIGHUP reads the configuration again. Captures that run go on; one with mistakes is
refused, and the one in force stays.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				return err
			}
			if err := needRoot("culprit run"); err != nil {
				return err
			}
			return daemon.Run(cmd.Context(), c, daemon.Options{Version: version, Commit: commit, Log: cmd.ErrOrStderr()})
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}
