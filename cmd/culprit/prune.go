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
		Long: `Bring the evidence within the bounds of the configuration: evidence.keep, max_bytes
and min_free. Closed traces are compressed if evidence.compress says so. What is older
than evidence.keep goes. If the evidence is still too large, or too little disk is
free, trace files go, the oldest first: those that are no proof, then, but not for
min_free, those that are. Their rows stay in the catalogue, and say why the file is
gone, until they are too old themselves. Nothing of a running capture is removed.
What was removed is listed by "culprit losses".

A daemon does all this itself. While one runs, only --dry-run works.`,
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
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
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
		fmt.Fprintf(w, "evidence: %s of %s; %s less when that is done; free on the disk: %s, to be kept: %s\n",
			text.Size(r.Bytes), text.Size(int64(e.MaxBytes)), text.Size(freed), text.Size(r.Free), text.Size(int64(e.MinFree)))
	}
}
