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
		Short: "Hunt: install the firewall rules and capture on each hit, until stopped",
		Long: `Hunt until SIGINT or SIGTERM. Then strace detaches from all processes, the firewall
rules are removed, and the exit status is 0. A second signal ends culprit at once.

SIGHUP reloads the configuration. Running captures go on. If the new configuration has
mistakes, it is refused, and the old one stays in force.`,
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
