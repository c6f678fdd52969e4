package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/internal/text"
)

func newProve() *cobra.Command {
	var f evidenceFlags
	cmd := &cobra.Command{
		Use:   "prove [CAPTURE]",
		Short: "Look again for the trace lines that sent the packets",
		Long: `Look again for the trace lines that sent the packets, in one capture or in all,
compressed traces included. The daemon does this while it writes traces. Use this for
evidence of an older culprit, or of a daemon that was killed.

No daemon may use the evidence meanwhile: stop it first, or name a copy with --evidence.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("prove takes one capture at most (see `culprit prove --help`)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := f.directory()
			if err != nil {
				return err
			}
			if err := needRoot("culprit prove"); err != nil {
				return err
			}
			r, err := catalogue.OpenReader(dir) // which does not create one
			if err != nil {
				return err
			}
			defer r.Close()
			capture := ""
			if len(args) == 1 {
				c, err := r.CaptureOf(args[0])
				if err != nil {
					return err
				}
				capture = c.Event.ID
			}
			s, err := evidence.Open(dir, messages(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			done, err := s.Prove(capture)
			if err := errors.Join(err, s.Close()); err != nil {
				return err
			}
			for _, err := range done.Unread {
				fmt.Fprintln(cmd.ErrOrStderr(), text.Escape(err.Error()))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s found: looked at %s, %s and %s\n", text.Plural(done.Found, "new proof"),
				text.Plural(done.Captures, "capture"), text.Plural(done.Traces, "trace"), text.Plural(done.Hits, "hit"))
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
