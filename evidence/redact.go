package evidence

import (
	"slices"

	"culprit/internal/event"
	"culprit/internal/redact"
)

// Documents share processes, which others read: what is masked is copied first.

func maskHit(p *redact.Patterns, h *event.Hit) *event.Hit {
	if p == nil {
		return h
	}
	masked := *h
	masked.Process = maskedParent(p, h.Process)
	masked.Culprit.Origin.Processes = slices.Clone(h.Culprit.Origin.Processes)
	for i := range masked.Culprit.Origin.Processes {
		maskProcess(p, &masked.Culprit.Origin.Processes[i])
	}
	return &masked
}

func maskCapture(p *redact.Patterns, c event.Capture) event.Capture {
	if p == nil {
		return c
	}
	c.Culprit.Examples = slices.Clone(c.Culprit.Examples)
	for i := range c.Culprit.Examples {
		m := &c.Culprit.Examples[i]
		m.CommandLine, m.Reason.Detail = p.Text(m.CommandLine), p.Text(m.Reason.Detail)
	}
	return c
}

func maskProgram(p *redact.Patterns, program event.Program) event.Program {
	maskProcess(p, &program.Process)
	if r := program.Culprit.Reason; p != nil && r != nil {
		program.Culprit.Reason = &event.Untraced{Code: r.Code, Detail: p.Text(r.Detail)}
	}
	return program
}

// maskProcess masks what a process and its parents say about themselves. It changes the process,
// but copies its parents.
func maskProcess(p *redact.Patterns, process *event.Process) {
	if p == nil {
		return
	}
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
