package main

import (
	"time"

	"github.com/spf13/cobra"

	"culprit/sensor"
)

// newThaw makes the command of the helper process that the daemon starts for its sensor.
func newThaw() *cobra.Command {
	var deadline time.Duration
	var pins, mounts []string
	cmd := &cobra.Command{
		Use:    "thaw",
		Short:  "Let processes go on that the sensor stopped, for the daemon that started this (not for people)",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(*cobra.Command, []string) error { return sensor.Thaw(deadline, pins, mounts) },
	}
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "longest time to stop a process")
	cmd.Flags().StringArrayVar(&pins, "pin", nil, "what is pinned, to remove at the end")
	cmd.Flags().StringArrayVar(&mounts, "mount", nil, "BPF file system of a pin, to unmount at the end; may be empty")
	return cmd
}
