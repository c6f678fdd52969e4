package dossier

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"culprit/evidence/dossier/report"
	"culprit/evidence/proof"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// linesAround is how many lines of the thread an excerpt shows before and after the proven one.
const linesAround = 12

// Excerpt reads the lines of a trace that explain a proof.
func Excerpt(path string, p event.ProofDetail) (proof.Story, error) {
	f, err := tracefile.Open(path)
	if err != nil {
		return proof.Story{}, err
	}
	defer f.Close()
	return proof.Excerpt(f, p, linesAround, linesAround)
}

// Gone says why a trace cannot be read: in the mirror of a fleet it may still be on its host.
func Gone(err error, host *event.Host, capture string) string {
	if host != nil && errors.Is(err, fs.ErrNotExist) {
		return words.Elsewhere(host, capture)
	}
	return err.Error()
}

func excerpt(p event.Proof) report.Excerpt {
	story, err := Excerpt(p.File.Path, p.Culprit)
	if err != nil {
		return report.Excerpt{Missing: Gone(err, p.Host, p.Culprit.Capture.ID)}
	}
	e := report.Excerpt{Note: ForkedBy(story)}
	for _, l := range story.Lines {
		if l.Cut > 0 {
			l.Text += fmt.Sprintf("… (%s more)", text.Size(l.Cut))
		}
		e.Lines = append(e.Lines, report.Line{Number: l.Number, Text: l.Text, Proof: l.Proof, Gap: l.Gap})
	}
	return e
}

// ForkedBy says how the thread of a story began: "thread 815, forked by 812 at line 20", or "" if
// the trace does not show it.
func ForkedBy(s proof.Story) string {
	var b strings.Builder
	for i, f := range s.Forks {
		if i == 0 {
			fmt.Fprintf(&b, "thread %d", f.TID)
		}
		fmt.Fprintf(&b, ", forked by %d at line %d", f.Parent, f.Line)
	}
	return b.String()
}
