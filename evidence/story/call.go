package story

import (
	"bytes"
	"fmt"
	"strings"

	"culprit/evidence/proof"
	"culprit/internal/proc"
	"culprit/internal/strace"
)

// became is what an execve does.
const became = "became"

// sending is what several sends to the same address do.
const sending = "sent"

// step says what a line shows. !ok: nothing that tells anything.
func (t *teller) step(l *line, c *proof.Call, network bool) (s Step, ok bool) {
	packet := t.packets[l.place()]
	switch {
	case l.name == "":
		return t.end(l)
	case network && c.Received:
		return s, false
	case network && l.name == "connect":
		return connecting(c)
	case network:
		if s = t.sends(c); packet == nil || s.Packet {
			return s, true
		}
		return proven(packet), true
	case packet != nil:
		return proven(packet), true
	}
	if tid, thread, ok := l.forked(); ok {
		one, several := t.started(l, tid, thread)
		return Step{What: "started " + one, several: "started " + several, Object: fmt.Sprint(tid), started: []int{tid}}, true
	}
	if result := l.returned(); result == strace.Failed || result == strace.Restarted {
		return s, false
	}
	return l.local()
}

// local says what a call did on this machine.
func (l *line) local() (s Step, ok bool) {
	first, second := l.strings()
	switch l.name {
	case "execve", "execveat":
		call := l.text
		if l.name == "execveat" {
			_, call, _ = bytes.Cut(call, []byte(", "))
		}
		program, args, _ := strace.Text("execve(" + string(call)).Execve()
		s = Step{What: became, Object: proc.JoinArgs(args, maxObject)}
		if len(args) == 0 || args[0] != program {
			s.Note = "(" + program + ")"
		}
	case "open", "openat", "openat2", "creat":
		switch {
		case IsLoading(l.name, l.text), l.has("O_PATH"): // that opens nothing, it only finds it
			return s, false
		case l.name == "creat" || l.has("O_WRONLY") || l.has("O_RDWR") || l.has("O_CREAT"):
			s = Step{What: "opened to write", several: "opened to write", Object: first}
		case l.has("O_DIRECTORY"):
			s = Step{What: "listed", several: "listed", Object: first}
		default:
			s = Step{What: "opened", several: "opened", Object: first}
		}
	case "connect": // of no address of the internet
		s = Step{What: "connected to a service of this machine,", Object: first}
	case "unlink", "unlinkat", "rmdir":
		s = Step{What: "removed", Object: first}
	case "rename", "renameat", "renameat2":
		s = Step{What: "renamed", Object: first, Note: "to " + second}
	case "chmod", "fchmodat", "fchmodat2":
		s = Step{What: "changed the mode of", Object: first, Note: "to " + l.last()}
	case "memfd_create":
		s = Step{What: "made a file in memory,", Object: first}
	case "setuid", "setresuid", "setreuid":
		id, _, _ := bytes.Cut(l.text, []byte(")"))
		s = Step{What: "changed its user to", Object: string(id), Note: "(" + l.name + ")"}
	case "chdir":
		s = Step{What: "went to the directory", Object: first}
	case "ptrace":
		what, _, _ := bytes.Cut(l.text, []byte(")"))
		s = Step{What: "called ptrace,", Object: string(what)}
	default:
		return s, false
	}
	return s, s.Object != ""
}

// has reports whether the arguments, outside of strings, have a flag.
func (l *line) has(flag string) bool {
	rest := l.text
	for {
		i := bytes.IndexByte(rest, '"')
		if i < 0 {
			return bytes.Contains(rest, []byte(flag))
		}
		if bytes.Contains(rest[:i], []byte(flag)) {
			return true
		}
		_, rest, _ = strace.CutQuoted(rest[i:])
	}
}

// strings returns the first two strings of the arguments.
func (l *line) strings() (first, second string) {
	rest := l.text
	for _, to := range []*string{&first, &second} {
		i := bytes.IndexByte(rest, '"')
		if i < 0 {
			break
		}
		var s []byte
		s, rest, _ = strace.CutQuoted(rest[i:])
		*to = string(strace.Unquote(nil, s))
	}
	return first, second
}

// last returns the last argument, a mode.
func (l *line) last() string {
	i := bytes.LastIndex(l.text, []byte(") "))
	if i < 0 {
		return "another"
	}
	args := l.text[:i]
	return string(args[max(0, bytes.LastIndexByte(args, ' ')+1):])
}

// end says how a process ended.
func (t *teller) end(l *line) (s Step, ok bool) {
	how := strings.Trim(string(l.text), "+ ")
	if k := l.from.kin; k.processes != nil && !k.processes[l.tid] || k.processes == nil && k.process(l.tid) != l.tid || how == "" {
		return s, false
	}
	return Step{What: how}, true
}

// IsLoading reports whether a call, without its name, does what the loader and libc do for every program:
// they look for libraries and languages, map code, and try what is not there.
func IsLoading(name string, call []byte) bool {
	switch name {
	case "mmap":
		return true
	case "open", "openat", "openat2":
	default:
		return false
	}
	if strace.Text(call).Returned() == strace.Failed {
		return true
	}
	for _, path := range [...]string{`.so"`, `.so.`, `"/etc/ld.so.`, `"/usr/lib/locale/`, `"/usr/share/locale/`, `/gconv-modules`} {
		if bytes.Contains(call, []byte(path)) {
			return true
		}
	}
	return false
}
