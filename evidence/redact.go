package evidence

import (
	"slices"
	"strings"

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
	if h.Threat != nil {
		threat := *h.Threat
		threat.Indicator.Description = p.Text(threat.Indicator.Description)
		masked.Threat = &threat
	}
	masked.Culprit.Origin.Processes = slices.Clone(h.Culprit.Origin.Processes)
	for i := range masked.Culprit.Origin.Processes {
		maskProcess(p, &masked.Culprit.Origin.Processes[i])
	}
	if from := h.Culprit.ForwardedFrom; from != nil {
		copied := *from
		copied.Process = maskedParent(p, from.Process)
		masked.Culprit.ForwardedFrom = &copied
	}
	masked.Culprit.ForwardedCandidates = slices.Clone(h.Culprit.ForwardedCandidates)
	for i := range masked.Culprit.ForwardedCandidates {
		c := &masked.Culprit.ForwardedCandidates[i]
		c.Process = maskedParent(p, c.Process)
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

// shortly is how much is masked before the end of a text that was cut, in bytes: it may be the
// beginning of a secret, which no pattern recognises.
const shortly = 256

// maskSnapshot masks what a process says about itself, and what its files are called.
func maskSnapshot(p *redact.Patterns, s event.Snapshot) event.Snapshot {
	if p == nil {
		return s
	}
	maskProcess(p, &s.Process.Process)
	s.Process.Args = maskArgs(p, s.Process.Args)
	s.Process.EnvVars = slices.Clone(s.Process.EnvVars)
	for i := range s.Process.EnvVars {
		maskText(p, &s.Process.EnvVars[i])
	}
	d := &s.Culprit
	maskText(p, &d.Cgroup)
	d.Maps, d.Files, d.Sockets, d.Stack = slices.Clone(d.Maps), slices.Clone(d.Files), slices.Clone(d.Sockets), slices.Clone(d.Stack)
	for i := range d.Maps {
		maskText(p, &d.Maps[i].Path)
	}
	for i := range d.Files {
		maskText(p, &d.Files[i].Path)
	}
	for i := range d.Sockets {
		maskText(p, &d.Sockets[i].Local)
		maskText(p, &d.Sockets[i].Remote)
	}
	for i := range d.Stack {
		maskText(p, &d.Stack[i].Function)
		maskText(p, &d.Stack[i].Module)
	}
	if r := d.Replaceable; r != nil {
		d.Replaceable = &event.Replaceable{Code: r.Code, Detail: p.Text(r.Detail)}
	}
	d.Incomplete = slices.Clone(d.Incomplete)
	for i := range d.Incomplete {
		d.Incomplete[i].Reason.Detail = p.Text(d.Incomplete[i].Reason.Detail)
	}
	return s
}

// maskText masks a text, and all of its end if it was cut.
func maskText(p *redact.Patterns, text *string) {
	*text = p.Text(*text)
	if cut, ok := strings.CutSuffix(*text, "…"); ok {
		keep := max(0, len(cut)-shortly)
		*text = cut[:keep] + strings.Repeat("*", len(cut)-keep) + "…"
	}
}

// maskArgs masks arguments as they are in a command line: a pattern may need two of them, as for
// "--password x". Masking keeps lengths.
func maskArgs(p *redact.Patterns, args []string) []string {
	line := p.Text(strings.Join(args, " "))
	masked := make([]string, len(args))
	for i, arg := range args {
		masked[i] = line[:len(arg)]
		if line = line[len(arg):]; i < len(args)-1 {
			line = line[1:]
		}
		maskText(p, &masked[i])
	}
	return masked
}
