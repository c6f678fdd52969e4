package words

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
)

// SnapshotTitle stands above a snapshot.
const SnapshotTitle = "what the program was, at the instant it sent the first packet"

// Fact is a line about something: what it is about, and what there is to say.
type Fact struct{ Key, Value string }

// Bounds of what is shown of a snapshot; the document has all.
const (
	shownItems = 12
	shownText  = 400
)

// Snapshot says what a process was: a fact a line. A line without a key belongs to the one above.
func Snapshot(s *event.Snapshot) (facts []Fact) {
	p, d := &s.Process, &s.Culprit
	add := func(key, format string, args ...any) { facts = append(facts, Fact{key, fmt.Sprintf(format, args...)}) }
	add("process", "%s", &p.Process)
	add("executable", "%s", p.Executable)
	if p.Hash != nil {
		add("SHA-256", "%s", p.Hash.SHA256)
	}
	if d.Replaceable != nil {
		add("replaceable", "%s", Replaceable(*d.Replaceable))
	}
	switch {
	case d.Removed != nil:
		add("copy", "it was removed: %s", Removed(*d.Removed))
	case d.KeptExecutable != nil:
		add("copy", "%s, %s", d.KeptExecutable.Path, text.Size(d.KeptExecutable.Size))
	}
	if p.WorkingDirectory != "" {
		add("directory", "%s", p.WorkingDirectory)
	}
	for depth, parent := range p.Ancestry() {
		add("", "%sof %s", strings.Repeat(" ", depth), parent)
	}
	add("user", "%s", identities(s))
	if d.Cgroup != "" {
		add("cgroup", "%s", d.Cgroup)
	}
	if s.Container != nil {
		add("container", "%s", Container(&s.Place))
	}
	items := func(key string, part event.SnapshotPart, all []string) {
		for i, one := range all[:min(len(all), shownItems)] {
			if i == 0 {
				add(key, "%s", text.Clip(one, shownText))
			} else {
				add("", "%s", text.Clip(one, shownText))
			}
		}
		if more := len(all) - shownItems; more > 0 {
			add("", "and %d more in the document (--json)", more)
		}
		if n := d.LeftOut[part]; n > 0 {
			add("", "and %d that were too many to keep", n)
		}
	}
	items("arguments", event.PartArgs, p.Args)
	items("environment", event.PartEnvironment, p.EnvVars)
	items("sockets", event.PartSockets, each(d.Sockets, socket))
	items("files", event.PartFiles, each(d.Files, openFile))
	items("mapped", event.PartMaps, each(d.Maps, func(m event.Mapping) string {
		if m.Path == "" {
			m.Path = "memory without a file, executable"
		}
		return fmt.Sprintf("%s %s %s", m.Start, m.Permissions, m.Path)
	}))
	if r := d.Registers; r != nil {
		call := "in no system call"
		if r.Syscall >= 0 {
			call = fmt.Sprintf("in system call %d (%s)", r.Syscall, strings.Join(r.Args, ", "))
		}
		add("registers", "thread %d, program counter %s, stack pointer %s, %s", r.TID, r.PC, r.SP, call)
	}
	items("stack", event.PartStack, each(d.Stack, func(f event.Frame) string {
		return strings.TrimRight(fmt.Sprintf("%s %s %s", f.Address, f.Function, f.Module), " ")
	}))
	for _, i := range d.Incomplete {
		add("missing", "%s", Incomplete(i))
	}
	return facts
}

func each[T any](all []T, say func(T) string) (lines []string) {
	for _, one := range all {
		lines = append(lines, say(one))
	}
	return lines
}

// identities says who a process is: its real user, and where the others differ, these too.
func identities(s *event.Snapshot) string {
	p := &s.Process
	said := []string{p.RealUser.String()}
	others := map[string]*event.User{"effective": p.User, "saved": p.SavedUser, "file system": s.Culprit.FSUser}
	for _, what := range slices.Sorted(maps.Keys(others)) {
		if u := others[what]; u != nil && p.RealUser != nil && u.ID != p.RealUser.ID {
			said = append(said, what+" "+u.String())
		}
	}
	if p.RealGroup != nil {
		groups := []string{p.RealGroup.ID}
		for _, g := range p.Supplementary {
			if g.ID != p.RealGroup.ID {
				groups = append(groups, g.ID)
			}
		}
		said = append(said, "groups "+strings.Join(groups[:min(len(groups), shownItems)], " "))
	}
	return strings.Join(said, ", ")
}

func socket(s event.Socket) string {
	what := strings.TrimSpace(strings.Join([]string{s.Family, s.Type, s.Protocol}, " "))
	if what == "" {
		what = "socket"
	}
	line := fmt.Sprintf("%d: %s", s.FD, what)
	if s.Local != "" {
		line += " " + s.Local
	}
	if s.Remote != "" {
		line += " > " + s.Remote
	}
	return line
}

func openFile(f event.OpenFile) string {
	return strings.Join(strings.Fields(fmt.Sprintf("%d: %s", f.FD, f.Access)), " ") + " " + f.Path
}

// Replaceable says why an executable may be gone or another one tomorrow.
func Replaceable(r event.Replaceable) string { return say(replaceable, r) }

var replaceable = map[event.ReplaceableCode]string{
	event.ReplaceableDeleted:    "the executable was deleted",
	event.ReplaceableMemory:     "the executable never had a file (memfd)",
	event.ReplaceableWritable:   "a user other than root can change or replace the executable",
	event.ReplaceableFileSystem: "the executable is on a file system that a user or another machine serves",
	event.ReplaceableUnknown:    "it is not known who can change the executable",
}

// Incomplete says which part of a snapshot is missing or not whole, and why.
func Incomplete(i event.Incomplete) string {
	return snapshotPart(i.Part) + ": " + say(incomplete, i.Reason)
}

func snapshotPart(p event.SnapshotPart) string {
	switch p {
	case event.PartProcess:
		return "names and parents"
	case event.PartArgs:
		return "arguments"
	case event.PartEnvironment:
		return "environment"
	case event.PartMaps:
		return "mapped files"
	case event.PartFiles:
		return "open files"
	case event.PartSockets:
		return "sockets"
	case event.PartRegisters:
		return "registers"
	case event.PartStack:
		return "call stack"
	case event.PartExecutable:
		return "hash of the executable"
	case event.PartCopy:
		return "copy of the executable"
	}
	return string(p)
}

var incomplete = map[event.IncompleteCode]string{
	event.IncompleteTime:         "not read in time, as the process would have had to wait",
	event.IncompleteGone:         "it was gone",
	event.IncompleteFailed:       "it could not be read",
	event.IncompleteBusy:         "too many snapshots were taken at once",
	event.IncompleteTooLarge:     "larger than what is read or kept",
	event.IncompleteNotInstalled: "eu-stack is not installed",
	event.IncompletePartly:       "eu-stack shows only some of it",
	event.IncompleteStuck:        "eu-stack hangs in the kernel, and keeps the process from being traced",
	event.IncompleteFileSystem:   "a file of the program is on a file system that may never answer",
	event.IncompleteOff:          "evidence.keep_executables is 0B",
	event.IncompleteNoRoom:       "no room on the disk",
	event.IncompleteStopped:      "culprit was stopped before it was read",
	event.IncompleteUnfinished:   "it is being read, or culprit was killed before it was",
}
