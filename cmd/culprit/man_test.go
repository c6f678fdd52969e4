package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command for people has a page, and troff does not complain about it.
func TestManPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := writeManPages(dir, newRoot()); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"culprit.1", "culprit-run.1", "culprit-rules-remove.1", "culprit-grep.1"} {
		if info, err := os.Stat(filepath.Join(dir, page)); err != nil {
			t.Error(err)
		} else if info.Mode() != 0o644 {
			t.Errorf("%s has mode %v", page, info.Mode())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "culprit-gate.1")); err == nil {
		t.Error("the gate, which is not for people, has a page")
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("no groff to try the pages with")
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		out, err := exec.Command(groff, "-man", "-ww", "-Tutf8", "-z", page).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(page), err, out)
		}
	}
}

func TestManPage(t *testing.T) {
	t.Parallel()
	cmd := &cobra.Command{Use: "hunt [TARGET]", Short: "Look for it", Long: "Look for it:\n\n.hidden  'a' \\ b", Run: func(*cobra.Command, []string) {}}
	cmd.Flags().StringP("config", "c", "/x", "configuration `file`")
	cmd.Flags().Bool("json", false, "one document a line")
	got := manPage(cmd)
	for _, want := range []string{
		".SH NAME\nhunt \\- Look for it\n",
		".SH DESCRIPTION\n.nf\nLook for it:\n\n\\&.hidden  \\(aqa\\(aq \\(rs b\n.fi\n",
		".TP\n\\fB\\-c\\fR, \\fB\\-\\-config\\fR \\fIfile\\fR\nconfiguration file (default /x)\n",
		".TP\n\\fB\\-\\-json\\fR\none document a line\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks\n%s\nin\n%s", want, got)
		}
	}
}
