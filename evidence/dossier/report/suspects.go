package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
)

// suspect is a program that sent packets: all processes that ran it below the same
// parents.
type suspect struct {
	sure     sure
	exact    bool           // false: it may have been a descendant of process
	process  *event.Process // the first
	proof    int            // of that process: its index in index.proofs, or -1
	hit      *event.Hit     // the first, nil if it is not in the report
	packets  [proven + 1]int
	pids     map[string]int // of its processes, by key
	commands map[string]int // packets, by command line
}

// total returns how many packets the program sent, as far as we know.
func (s *suspect) total() int {
	n := 0
	for _, packets := range s.packets {
		n += packets
	}
	return n
}

// suspects returns the programs that sent packets, the surest first, and how many packets of the
// report have none.
func (x *index) suspects() (all []*suspect, without int) {
	byKind := map[string]*suspect{}
	add := func(p *event.Process, how sure, exact bool, proof int, h *event.Hit) {
		k := kind(p)
		s := byKind[k]
		if s == nil {
			s = &suspect{pids: map[string]int{}, commands: map[string]int{}}
			byKind[k] = s
		}
		if how > s.sure {
			s.sure, s.exact, s.process, s.proof, s.hit = how, exact, p, proof, h
		}
		s.packets[how]++
		s.pids[key(p)] = p.PID
		s.commands[command(p)]++
	}
	for i, proof := range x.proofs {
		p, exact := x.sender(proof)
		if p == nil {
			continue // its trace is not in the report
		}
		h, how := x.hits[proof.Culprit.Hit.ID], proven
		if proof.Culprit.Probable {
			if how = probable; h != nil && x.sure(h) == seen {
				continue // the kernel knows better
			}
		}
		add(p, how, exact, i, h)
	}
	for i := range x.Hits {
		h := &x.Hits[i]
		switch how := x.sure(h); how {
		case proven, probable: // handled above, unless the proof is not in the report
		case seen:
			add(h.Process, seen, true, -1, h)
		case socket:
			for _, p := range h.Senders() {
				add(&p, socket, true, -1, h)
			}
		default:
			without++
		}
	}
	all = slices.SortedFunc(maps.Values(byKind), func(a, b *suspect) int {
		return cmp.Or(cmp.Compare(b.sure, a.sure), cmp.Compare(b.total(), a.total()), cmp.Compare(kind(a.process), kind(b.process)))
	})
	return all, without
}

// suspectRow is a suspect as a table shows it.
type suspectRow struct {
	Sure, Command, Executable, Parents string
	Processes, Packets                 string
	Proof                              int // its number, 0: none
}

func (s *suspect) row() suspectRow {
	r := suspectRow{
		Sure:       s.sure.String(),
		Command:    clip(command(s.process), maxCommand),
		Executable: clip(s.process.Executable, maxCommand),
		Parents:    parents(s.process),
		Processes:  s.processes(),
		Proof:      s.proof + 1,
	}
	if n := len(s.commands); n > 1 {
		r.Command += fmt.Sprintf(" (and %s)", text.Plural(n-1, "other command line"))
	}
	var packets []string
	for how := proven; how > unknown; how-- {
		if n := s.packets[how]; n > 0 {
			packets = append(packets, fmt.Sprintf("%d %s", n, how))
		}
	}
	r.Packets = strings.Join(packets, ", ")
	return r
}

// processes names some PIDs: "3 processes (812, 820, 830)".
func (s *suspect) processes() string {
	const some = 5
	pids := slices.Sorted(maps.Values(s.pids))
	var names []string
	for _, pid := range pids[:min(len(pids), some)] {
		names = append(names, fmt.Sprint(pid))
	}
	if len(pids) > some {
		names = append(names, "…")
	}
	if len(pids) == 1 {
		return "PID " + names[0]
	}
	return fmt.Sprintf("%s (%s)", text.Plural(len(pids), "process"), strings.Join(names, ", "))
}

// parents writes the chain of parents, the nearest first.
func parents(p *event.Process) string {
	const most = 6
	var names []string
	for p = p.Parent; p != nil && p.PID > 1; p = p.Parent {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, fmt.Sprintf("%s (%d)", clip(command(p), maxLabel), p.PID))
	}
	return strings.Join(names, " ‹ ")
}
