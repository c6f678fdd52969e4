package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"culprit/internal/text"
	"culprit/lists/sigma"
)

func newListsImport() *cobra.Command {
	var files []string
	var dir string
	cmd := &cobra.Command{
		Use:   "import --sigma FILE... [--dir DIR]",
		Short: "Turn Sigma rules about DNS questions into lists, and rules for the configuration",
		Long: `Turn Sigma rules about DNS questions into rules for the configuration, which it prints, and the
lists that these name, which it writes to DIR. What a rule asks for that culprit cannot find,
such as the program that asks or a regular expression, is named on the standard error, and in
comments; nothing is guessed.

The exit status is 1 if a file cannot be read, or nothing of a rule could be turned.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			files = append(files, args...)
			if len(files) == 0 || !cmd.Flags().Changed("sigma") {
				return usageError{errors.New("name at least one file of rules: --sigma rule.yml")}
			}
			abs, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			i := importer{dir: abs, stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr(), names: map[string]string{}}
			for _, f := range files {
				i.file(f)
			}
			if i.failed {
				return exitStatus(exitTrouble)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&files, "sigma", nil, "a file of Sigma rules; also several, and names behind it")
	cmd.Flags().StringVar(&dir, "dir", "/etc/culprit/lists", "where the lists go")
	return cmd
}

// An importer turns files of Sigma rules into lists and rules.
type importer struct {
	dir            string
	stdout, stderr io.Writer
	names          map[string]string // of rules, and the file that each came from
	begun          bool              // "rules:" is printed
	failed         bool
}

// fail says why something of a file could not be done.
func (i *importer) fail(file string, err error) {
	i.failed = true
	fmt.Fprintf(i.stderr, "culprit: %s: %s\n", text.Escape(file), text.Escape(err.Error()))
}

func (i *importer) file(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		i.fail(path, err)
		return
	}
	rules, err := sigma.Read(b)
	if err != nil {
		i.fail(path, err)
		return
	}
	for n, r := range rules {
		name := ruleName(path)
		if n > 0 {
			name += "-" + strconv.Itoa(n+1)
		}
		i.rule(path, name, r)
	}
}

// rule writes the list of a rule and prints its rules.
func (i *importer) rule(path, name string, r sigma.Rule) {
	for _, what := range r.Notes {
		fmt.Fprintf(i.stderr, "%s: note: %s\n", text.Escape(path), what)
	}
	for _, what := range r.Missing {
		fmt.Fprintf(i.stderr, "%s: cannot be expressed: %s\n", text.Escape(path), what)
	}
	if len(r.Entries)+len(r.Patterns) == 0 {
		i.fail(path, fmt.Errorf("nothing of %q is a rule of culprit", text.Escape(r.Title)))
		return
	}
	if first, twice := i.names[name]; twice {
		i.fail(path, fmt.Errorf("its rule would have the same name as that of %s: give the file another name", text.Escape(first)))
		return
	}
	i.names[name] = path
	if !i.begun {
		fmt.Fprintln(i.stdout, "rules:")
		i.begun = true
	}
	about := about(path, r)
	for _, line := range about {
		fmt.Fprintf(i.stdout, "  # %s\n", line)
	}
	if len(r.Entries) > 0 {
		list := filepath.Join(i.dir, name+".txt")
		if err := writeList(list, about, r.Entries); err != nil {
			i.fail(path, err)
			return
		}
		fmt.Fprintf(i.stderr, "%s: %s in %s\n", text.Escape(path), text.Plural(len(r.Entries), "name"), list)
		fmt.Fprintf(i.stdout, "  - {name: %s, list: %s, format: adblock}\n", strconv.Quote(name), strconv.Quote(list))
	}
	for n, p := range r.Patterns {
		fmt.Fprintf(i.stdout, "  - {name: %s, %s: %s}\n", strconv.Quote(fmt.Sprintf("%s.%d", name, n+1)), p.Key, strconv.Quote(p.Value))
	}
}

// about are the lines that say where a rule comes from, for comments.
func about(path string, r sigma.Rule) []string {
	const most = 300
	said := func(s string) string { return text.Escape(text.Clip(s, most)) }
	lines := []string{
		importMark + " --sigma " + said(filepath.Base(path)),
		"title: " + said(r.Title),
		said(fmt.Sprintf("id: %s, status: %s, level: %s", cmp.Or(r.ID, "none"), cmp.Or(r.Status, "none"), cmp.Or(r.Level, "none"))),
	}
	if r.Author != "" {
		lines = append(lines, "author: "+said(r.Author))
	}
	for _, one := range r.References {
		lines = append(lines, "reference: "+said(one))
	}
	for _, one := range r.Notes {
		lines = append(lines, "note: "+one)
	}
	for _, one := range r.Missing {
		lines = append(lines, "cannot be expressed: "+one)
	}
	return lines
}

// importMark begins the lists that we wrote, and may write again.
const importMark = "made by culprit lists import"

// writeList writes a list, at once or not at all. It replaces only what we wrote.
func writeList(path string, about, entries []string) error {
	if old, err := os.ReadFile(path); err == nil && !strings.HasPrefix(string(old), "! "+importMark) {
		return fmt.Errorf("%s is there, and not by this command: remove it, or name another --dir", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".import-*")
	if err != nil {
		return fmt.Errorf("write the list: %w: make the directory, or name another one with --dir", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString("! " + strings.Join(about, "\n! ") + "\n" + strings.Join(entries, "\n") + "\n")
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// ruleName makes the name of a rule from that of a file.
func ruleName(path string) string {
	base := filepath.Base(path)
	name := []byte("sigma-" + strings.TrimSuffix(base, filepath.Ext(base)))
	for i, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			name[i] = '-'
		}
	}
	const most = 42 // and numbers, of the 48 that a name may have
	return string(name[:min(len(name), most)])
}
