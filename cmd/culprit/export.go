package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"culprit/evidence/dossier"
	"culprit/evidence/dossier/bundle"
	"culprit/internal/text"
)

func newExport() *cobra.Command {
	var f evidenceFlags
	var out string
	cmd := &cobra.Command{
		Use:   "export ID",
		Short: "Pack a capture into one file: traces, packets, report, documents",
		Long: `Pack a capture into one .tar.zst file, for a colleague or for the archive. It holds the
traces, the packets (packets.pcapng), the report (HTML and text), the documents as JSON
Lines, and a manifest with the SHA-256 of every file. The same evidence makes the same
bytes.

ID is a capture, or one of its hits or traces. Its first or last characters are enough.
Unpack with: tar --zstd -xf FILE. Check with: culprit verify FILE.`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, c, err := f.openCapture(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			name := dossier.ExportName(c)
			if out != "" {
				name = out
			}
			var digest string
			var gone []string
			err = writeFile(cmd.OutOrStdout(), name, func(w io.Writer) (err error) {
				digest, gone, err = dossier.Export(r, w, c)
				return err
			})
			if err != nil {
				return err
			}
			for _, file := range gone {
				fmt.Fprintf(cmd.ErrOrStderr(), "left out, because it was removed: %s\n", text.Escape(file))
			}
			if name != "-" {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\nSHA-256 of its manifest: %s\n", name, digest)
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - is standard output")
	return cmd
}

func newVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a file that export wrote",
		Long: `Check a file that export wrote: it must hold everything that its manifest lists,
unchanged, and nothing else. If not, the exit status is 1. - is standard input.

The manifest protects against damage and mix-ups. It does not protect against somebody
who writes a new manifest: compare the SHA-256 printed here with the one export printed.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("verify takes one file (see `culprit verify --help`)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("verify: %w", err)
				}
				defer f.Close()
				in = f
			}
			r, err := bundle.Verify(in)
			if err != nil {
				return fmt.Errorf("verify %s: %w", args[0], err)
			}
			out := cmd.OutOrStdout()
			if m := r.Manifest; m != nil {
				fmt.Fprintf(out, "capture %s of %s, %s, %s\n", text.Escape(m.Capture.Event.ID), text.Escape(m.Host.Name),
					text.Escape(m.Capture.Whose()), text.Time(m.Capture.Timestamp))
				fmt.Fprintf(out, "SHA-256 of its manifest: %s\n", r.Digest)
			}
			for _, p := range r.Problems {
				fmt.Fprintln(out, p)
			}
			if r.More > 0 {
				fmt.Fprintf(out, "and %s\n", text.Plural(r.More, "more problem"))
			}
			if !r.OK() {
				return fmt.Errorf("%s is not intact: %s", args[0], text.Plural(len(r.Problems)+r.More, "problem"))
			}
			fmt.Fprintf(out, "intact, as the manifest says: %s, %s\n", text.Plural(r.Good, "file"), text.Size(r.Bytes))
			return nil
		},
	}
}
