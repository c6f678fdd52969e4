package dossier

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier/bundle"
	"culprit/evidence/dossier/report"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
)

// Export writes a capture as one bundle: its traces and the kept executables as they are on the disk, its packets, its
// report, and all its documents as JSON Lines. It returns the SHA-256 of the bundle's manifest,
// and the paths of files that are gone. The same evidence makes the same bytes, unless a
// running daemon can still prove hits.
func Export(r *catalogue.Reader, w io.Writer, c *event.Capture) (digest string, gone []string, err error) {
	var files []bundle.File
	for t, err := range r.Traces(catalogue.Filter{Capture: c.Event.ID}) {
		if err != nil {
			return "", nil, err
		}
		f, err := tracefile.Open(t.File.Path)
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, t.File.Path)
			continue
		}
		if err != nil {
			return "", nil, err
		}
		files = append(files, bundle.Path(path.Join("traces", filepath.Base(f.Path())), f.Path()))
		f.Close()
	}
	kept := map[string]bool{}
	for s, err := range r.Snapshots(catalogue.Filter{Capture: c.Event.ID}) {
		if err != nil {
			return "", nil, err
		}
		copy := s.Culprit.KeptExecutable
		if copy == nil || kept[copy.Path] {
			continue
		}
		kept[copy.Path] = true
		if _, err := os.Lstat(copy.Path); err != nil {
			gone = append(gone, copy.Path)
			continue
		}
		files = append(files, bundle.Path(path.Join(directory.Executables, filepath.Base(copy.Path)), copy.Path))
	}
	made := func(name string, write func(io.Writer) error) error {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		files = append(files, bundle.Bytes(name, b.Bytes()))
		return nil
	}
	rc, err := Case(r, *c)
	if err != nil {
		return "", nil, err
	}
	if rc.Made = c.Timestamp; c.Event.End != nil {
		rc.Made = *c.Event.End // not now, for the same bytes each time
	}
	of := catalogue.Filter{Capture: c.Event.ID}
	err = errors.Join(
		made(directory.Packets, func(w io.Writer) error {
			_, err := Packets(r, w, c)
			return err
		}),
		made("report.html", func(w io.Writer) error { return report.HTML(w, rc) }),
		made("report.txt", func(w io.Writer) error { return report.Text(w, rc) }),
		made("hits.jsonl", func(w io.Writer) error { return jsonLines(w, withAnswers(r.Hits(of), rc)) }),
		made("traces.jsonl", func(w io.Writer) error { return jsonLines(w, r.Traces(of)) }),
		made("programs.jsonl", func(w io.Writer) error { return jsonLines(w, r.Programs(of)) }),
		made("proofs.jsonl", func(w io.Writer) error { return jsonLines(w, r.Proofs(of)) }),
		made("snapshots.jsonl", func(w io.Writer) error { return jsonLines(w, r.Snapshots(of)) }),
	)
	if err != nil {
		return "", nil, err
	}
	m := bundle.Manifest{Agent: bundle.Agent{Type: "culprit"}, Capture: *c}
	if c.Observer != nil {
		m.Agent.Version = c.Observer.Version
	}
	if c.Host != nil {
		m.Host.Name = c.Host.Hostname
	}
	digest, err = bundle.Write(w, m, files)
	return digest, gone, err
}

// withAnswers adds to hits what followed their packets, as far as the case has it.
func withAnswers(hits iter.Seq2[event.Hit, error], rc *report.Case) iter.Seq2[event.Hit, error] {
	followed := map[string]*event.Hit{}
	for i := range rc.Hits {
		if h := &rc.Hits[i]; h.Culprit.Answer != nil {
			followed[h.Event.ID] = h
		}
	}
	return func(yield func(event.Hit, error) bool) {
		for h, err := range hits {
			if f := followed[h.Event.ID]; f != nil {
				h.DNS, h.Culprit.Answer = f.DNS, f.Culprit.Answer
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

// jsonLines writes documents, one a line.
func jsonLines[T any](w io.Writer, docs iter.Seq2[T, error]) error {
	for d, err := range docs {
		if err != nil {
			return err
		}
		b, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// ExportName returns the usual file name of a capture's bundle.
func ExportName(c *event.Capture) string {
	return "culprit-" + strings.ToLower(c.Event.ID) + ".tar.zst"
}
