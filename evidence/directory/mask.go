package evidence

import (
	"io"
	"os"
	"slices"

	"culprit/internal/event"
	"culprit/internal/redact"
	"culprit/internal/strace"
)

// Redact sets what is masked: in traces that begin from now on, and in command lines.
// Safe for concurrent use.
func (s *Store) Redact(p *redact.Patterns) { s.dir.Redact(p) }

// Redact sets what is masked in the traces that begin from now on. Safe for concurrent
// use.
func (d *Directory) Redact(p *redact.Patterns) { d.mask.Store(p) }

// masked returns a document with what it says of processes masked. Documents share processes:
// those that it changes it copies, except for those in a hit, which is ours.
func (s *Store) masked(change any) any {
	p := s.dir.mask.Load()
	if p == nil {
		return change
	}
	switch v := change.(type) {
	case *event.Hit:
		v.Process = maskedParent(p, v.Process)
		v.Culprit.Origin.Processes = slices.Clone(v.Culprit.Origin.Processes)
		for i := range v.Culprit.Origin.Processes {
			maskProcess(p, &v.Culprit.Origin.Processes[i])
		}
	case event.Capture:
		v.Culprit.Examples = slices.Clone(v.Culprit.Examples)
		for i := range v.Culprit.Examples {
			m := &v.Culprit.Examples[i]
			m.CommandLine, m.Reason.Detail = p.Text(m.CommandLine), p.Text(m.Reason.Detail)
		}
		return v
	case event.Trace:
		maskProcess(p, &v.Process)
		return v
	case event.Program:
		maskProcess(p, &v.Process)
		if r := v.Culprit.Reason; r != nil {
			v.Culprit.Reason = &event.Untraced{Code: r.Code, Detail: p.Text(r.Detail)}
		}
		return v
	case event.Proof:
		maskProcess(p, &v.Process)
		return v
	}
	return change
}

func maskProcess(p *redact.Patterns, process *event.Process) {
	for _, text := range []*string{&process.CommandLine, &process.Executable, &process.Name, &process.WorkingDirectory} {
		*text = p.Text(*text)
	}
	process.Parent = maskedParent(p, process.Parent)
}

func maskedParent(p *redact.Patterns, process *event.Process) *event.Process {
	if process == nil {
		return nil
	}
	masked := *process
	maskProcess(p, &masked)
	return &masked
}

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
