package main

import (
	"github.com/spf13/cobra"

	"culprit/capture/gate"
)

// newGate makes the command of the helper process that the daemon starts for itself.
func newGate() *cobra.Command {
	var c gate.Config
	cmd := &cobra.Command{
		Use:    "gate",
		Short:  "Hold programs at execve for the daemon that started this (not for people)",
		Hidden: true,
		Args:   noArgs,
		RunE: func(*cobra.Command, []string) error {
			const socket = 3 // see gate.Keeper
			return gate.Run(socket, c)
		},
	}
	cmd.Flags().DurationVar(&c.Deadline, "deadline", 0, "longest time to hold a program")
	cmd.Flags().BoolVar(&c.Stop, "stop", false, "stop programs after execve")
	cmd.Flags().StringArrayVar(&c.Exempt, "exempt", nil, "never ask about this file")
	return cmd
}
