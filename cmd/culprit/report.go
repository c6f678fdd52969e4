package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"culprit/evidence/dossier"
	"culprit/evidence/dossier/report"
)

func newReport() *cobra.Command {
	var f evidenceFlags
	var out string
	var plain bool
	cmd := &cobra.Command{
		Use:   "report ID",
		Short: "Write what happened in a capture as one HTML file, or as text",
		Long: `Write what happened in a capture: who sent the packets, and how that is known. The
report is one HTML file that loads nothing from elsewhere. You can mail or print it.

ID is a capture, or one of its hits or traces. Its first or last characters are enough.
Without --output the file is culprit-ID.html in the current directory. With --text the
report goes to the terminal. The file holds other people's data: only you can read it.`,
		Example: `  culprit report 01JH --output case.html
  culprit report 01JH --text | less`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, c, err := f.openCapture(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			rc, err := dossier.Case(r, *c)
			if err != nil {
				return err
			}
			if plain && out == "" {
				return report.Text(cmd.OutOrStdout(), rc)
			}
			write, name := report.HTML, "culprit-"+strings.ToLower(c.Event.ID)+".html"
			if plain {
				write = report.Text
			}
			if out != "" {
				name = out
			}
			if err := writeFile(cmd.OutOrStdout(), name, func(w io.Writer) error { return write(w, rc) }); err != nil {
				return err
			}
			if name != "-" {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", name)
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; - is standard output")
	cmd.Flags().BoolVar(&plain, "text", false, "plain text instead of HTML")
	return cmd
}

// oneID requires one argument, an id.
func oneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%s takes one id (see `%s --help`)", cmd.Name(), cmd.CommandPath())}
	}
	return nil
}

// writeFile creates a file that only its owner can read, and leaves no incomplete file behind.
// The name - means standard output.
func writeFile(stdout io.Writer, name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(stdout)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("write %s: it exists and is not an ordinary file: name another, or - for standard output", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(f.Name()) // if it still exists
	b := bufio.NewWriter(f)
	err = write(b)
	if err == nil {
		err = b.Flush()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
