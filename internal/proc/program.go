package proc

import (
	"cmp"

	"culprit/internal/event"
)

// Program is the program that a process runs, or is about to run.
type Program struct{ Name, Executable, CommandLine string }

// Set writes the program into the document of a process.
func (p Program) Set(doc *event.Process) {
	doc.Name, doc.Executable, doc.CommandLine = p.Name, p.Executable, p.CommandLine
}

// Update is like Set, but for the same program it keeps a known command line: a process that is
// ending has lost it.
func (p Program) Update(doc *event.Process) {
	if p.Executable == doc.Executable && (p.CommandLine == "" || p.CommandLine == p.Executable) {
		p.CommandLine = cmp.Or(doc.CommandLine, p.CommandLine)
	}
	p.Set(doc)
}
