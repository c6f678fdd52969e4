package proc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"culprit/internal/event"
)

// Image tells the program that a process runs from those that it ran before, most often: the kernel
// chooses where its stack begins, if the process does not forbid it (ADDR_NO_RANDOMIZE in man 2
// personality), and then the end of its code differs.
type Image struct{ Stack, Code uint64 }

// Image reads that of a process (startstack and endcode in man 5 proc_pid_stat). It is zero if the
// process has ended.
func (fs FS) Image(pid int) (i Image, err error) {
	i, err = fs.imageOf(pid)
	if err == nil && i == (Image{}) {
		if tid := fs.Lead(pid); tid != pid {
			return fs.imageOf(tid)
		}
	}
	return i, err
}

// imageOf reads that of a thread. It is zero if the thread has ended.
func (fs FS) imageOf(tid int) (i Image, err error) {
	b, err := fs.read(tid, "stat")
	if err != nil {
		return i, err
	}
	const code, stack = 27 - 3, 28 - 3 // the first field behind the name is the third
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= stack {
		return i, fmt.Errorf("read stat of process %d: %d fields behind the name", tid, len(fields))
	}
	var failed error
	i.Code, err = strconv.ParseUint(fields[code], 10, 64)
	i.Stack, failed = strconv.ParseUint(fields[stack], 10, 64)
	return i, errors.Join(err, failed)
}

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
