package directory

import (
	"io"
	"os"

	"culprit/internal/redact"
	"culprit/internal/strace"
)

// Redact sets what is masked in the traces that begin from now on. Safe for concurrent
// use.
func (d *Directory) Redact(p *redact.Patterns) { d.mask.Store(p) }

// Mask is what is masked now: nil if nothing is.
func (d *Directory) Mask() *redact.Patterns { return d.mask.Load() }

// maskedFile masks lines on their way into a file.
type maskedFile struct {
	*redact.Masker
	file *os.File
}

func (f maskedFile) Close() error {
	err := f.Masker.Close()
	if closed := f.file.Close(); err == nil {
		err = closed
	}
	return err
}

// maskLines returns what masks lines on their way into a file.
func maskLines(f *os.File, p *redact.Patterns) io.WriteCloser {
	if p == nil {
		return f
	}
	return maskedFile{p.Masker(f.Write, strace.Spare), f}
}
