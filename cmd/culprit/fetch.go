package main

import (
	"github.com/spf13/cobra"

	"culprit/lists/fetch"
)

// newFetch makes the command of the process that gets a list from the network.
func newFetch() *cobra.Command {
	return &cobra.Command{
		Use:    "fetch",
		Short:  "Get a list from the network, for the `culprit lists update` that started this (not for people)",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fetch.Child(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
