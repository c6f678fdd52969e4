package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"culprit/internal/config"
	"culprit/internal/text"
	"culprit/lists/fetch"
)

func newListsUpdate() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Fetch what lists.sources of the configuration names, and replace the lists that changed",
		Long: `Fetch what lists.sources of the configuration names, over HTTPS, and replace the lists that
changed. A file that cannot be read as a list does not replace the one that is there. If
root runs it, another process does the fetching, which runs as lists.user and has no
rights. A running daemon loads what changed by itself, if lists.watch says so.

The exit status is 1 if a list could not be updated.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadToLook(path)
			if err != nil {
				return err
			}
			return updateLists(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

func updateLists(ctx context.Context, c *config.Config, stdout, stderr io.Writer) error {
	if len(c.Lists.Sources) == 0 {
		return fmt.Errorf("%s has no lists.sources: there is nothing to fetch", c.Path)
	}
	f := fetch.Fetcher{User: c.Lists.User.UID, Agent: "culprit/" + version}
	if c.Lists.CA != "" {
		var err error
		if f.CA, err = os.ReadFile(c.Lists.CA); err != nil {
			return fmt.Errorf("read the certificates of lists.ca: %w", err)
		}
	}
	failed := 0
	for _, s := range c.Lists.Sources {
		if ctx.Err() != nil {
			return errors.New("interrupted: the other lists were not fetched")
		}
		result, err := f.Update(ctx, s)
		if err != nil {
			failed++
			fmt.Fprintf(stderr, "culprit: %s stays as it is: %v\n", text.Escape(s.File), err)
			continue
		}
		if result.Shrunk() {
			fmt.Fprintf(stderr, "warning: %s had %s, and now has %s\n", text.Escape(s.File), text.Plural(result.Before, "name"), text.Plural(result.Stats.Entries, "name"))
		}
		fmt.Fprintf(stdout, "%s: %s\n", text.Escape(s.File), updated(result))
	}
	if failed > 0 {
		return exitStatus(exitTrouble)
	}
	return nil
}

func updated(r fetch.Result) string {
	if r.Unchanged {
		return "not modified"
	}
	return fmt.Sprintf("%s, %d rejected (%s)", text.Plural(r.Stats.Entries, "name"), r.Stats.Rejects(), r.Stats.Format)
}
