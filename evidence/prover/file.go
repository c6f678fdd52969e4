package prover

import (
	"io"

	"culprit/evidence/proof"
	"culprit/internal/event"
)

// comparedFile is the file of a trace whose lines are compared with packets as they
// come, before anything in them is masked.
type comparedFile struct {
	io.WriteCloser
	scanner *proof.Scanner
	closed  func(proof.ScannerLost)
}

// Compare returns a file for the trace that writes to the given one, which masks.
func (p *Prover) Compare(t *event.Trace, file io.WriteCloser) io.WriteCloser {
	of := *t
	return &comparedFile{
		WriteCloser: file,
		scanner:     proof.NewScanner(func(s proof.Send) { p.mail.compare(sendNews{&of, s}) }),
		closed:      func(lost proof.ScannerLost) { p.mail.lose(uint64(lost.LongLines + lost.Unfinished)) },
	}
}

func (f *comparedFile) Write(b []byte) (int, error) {
	n, err := f.WriteCloser.Write(b)
	f.scanner.Write(b[:n])
	return n, err
}

func (f *comparedFile) Close() error {
	f.scanner.Close()
	f.closed(f.scanner.Lost())
	return f.WriteCloser.Close()
}
