package proc

import (
	"cmp"

	"culprit/internal/event"
)

// Program is what a process runs, or is about to run.
type Program struct{ Name, Executable, CommandLine string }

// Set writes the program into the document of its process.
func (p Program) Set(doc *event.Process) {
	doc.Name, doc.Executable, doc.CommandLine = p.Name, p.Executable, p.CommandLine
}

// Update is like Set, but a process that is just ending has lost its command line: the
// one that was known of the same program stays.
func (p Program) Update(doc *event.Process) {
	if p.Executable == doc.Executable && (p.CommandLine == "" || p.CommandLine == p.Executable) {
		p.CommandLine = cmp.Or(doc.CommandLine, p.CommandLine)
	}
	p.Set(doc)
}
