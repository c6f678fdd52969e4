package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"culprit/daemon"
	"culprit/evidence"
	"culprit/evidence/retention"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func newPrune() *cobra.Command {
	var f evidenceFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove old evidence now, as the daemon does every minute",
		Long: `Bring the evidence within the limits of the configuration: evidence.keep, max_bytes
and min_free.

Compress closed traces, if evidence.compress is set. Remove what is older than
evidence.keep. If the evidence is still larger than max_bytes, or less than min_free
is free on the disk, remove trace files, the oldest first. Files with a proof go last,
and never for min_free. The catalogue keeps their rows, with the reason, until the
rows are too old themselves. Nothing of a running capture is removed. "culprit losses"
lists what was removed.

The daemon does all this itself. While it runs, only --dry-run works.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needRoot("culprit prune"); err != nil {
				return err
			}
			e, err := f.settings()
			if err != nil {
				return err
			}
			r, err := evidence.Prune(cmd.Context(), e.Dir, daemon.Bounds(e), dryRun, messages(cmd.ErrOrStderr()))
			printPruned(cmd.OutOrStdout(), e, r, dryRun)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed and compressed")
	return cmd
}

func printPruned(w io.Writer, e config.Evidence, r retention.Report, dryRun bool) {
	would := ""
	if dryRun {
		would = "would be "
	}
	if r.Compressed > 0 {
		fmt.Fprintf(w, "%s %scompressed\n", text.Plural(r.Compressed, "trace"), would)
	}
	var freed int64
	for _, v := range r.Removed {
		proven := ""
		if v.Proven {
			proven = "a proof, "
		}
		fmt.Fprintf(w, "%s %sremoved: %s%s: %s\n", text.Escape(filepath.Join(e.Dir, v.Name)), would, proven, text.Size(v.Size), words.Removed(event.Removed{Code: v.Why}))
		freed += v.Size
	}
	for _, table := range slices.Sorted(maps.Keys(r.Expired)) {
		if n := r.Expired[table]; n > 0 {
			fmt.Fprintf(w, "%d %s %sremoved from the catalogue\n", n, table, would)
		}
	}
	if r.Bytes > 0 {
		fmt.Fprintf(w, "evidence: %s of %s (evidence.max_bytes), %s less after this; free on the disk: %s (evidence.min_free: %s)\n",
			text.Size(r.Bytes), text.Size(int64(e.MaxBytes)), text.Size(freed), text.Size(r.Free), text.Size(int64(e.MinFree)))
	}
}
