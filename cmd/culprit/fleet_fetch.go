package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"culprit/fleet/bundles"
	"culprit/internal/config"
	"culprit/internal/text"
)

func newFleetFetch() *cobra.Command {
	var f mirrorFlags
	fetcher := bundles.Fetcher{}
	var most string
	cmd := &cobra.Command{
		Use:   "fetch ID",
		Short: "Get the traces of a capture from its host",
		Long: `Get the traces of a capture from its host into the mirror, with its packets and kept
executables: then show, grep, report and serve have them. ID is a capture, or one of its
hits or traces.

A host gives what its own configuration allows (fleet.bundles), and only captures that
have ended. If the bundle is not there yet, the host is asked for it. What was interrupted
goes on where it was when you fetch it again.

How large a bundle is, its host says: more than --max-size is not taken, packed or unpacked.`,
		Example: "  culprit fleet fetch 9HBJC3C",
		Args:    oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := config.ParseBytes(most)
			if err != nil {
				return usageError{fmt.Errorf("--max-size: %w", err)}
			}
			fetcher.Max = int64(size)
			r, err := f.read(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			c, err := r.CaptureOf(args[0])
			if err != nil {
				return err
			}
			if fetcher.Conn, err = f.connect(cmd.Context()); err != nil {
				return err
			}
			defer fetcher.Conn.Close()
			settings, err := f.settings()
			if err != nil {
				return err
			}
			fetcher.Free = int64(settings.Evidence.MinFree)
			if fetcher.Dir, err = f.directory(); err != nil {
				return err
			}
			fetcher.Told = func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format, args...) }
			got, err := fetcher.Fetch(cmd.Context(), r, c)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s of capture %s, of host %s: %s\nSHA-256 of its manifest: %s\n",
				text.Plural(got.Files, "file"), c.Event.ID, c.Host.Name, text.Size(got.Bytes), got.Digest)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&fetcher.Wait, "wait", 2*time.Minute, "how `long` to wait for the host, and for servers that are away meanwhile")
	cmd.Flags().StringVar(&most, "max-size", "1GiB", "the most `bytes` of a bundle, such as 4GiB")
	return cmd
}
