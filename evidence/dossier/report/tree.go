package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// node is a process of the tree.
type node struct {
	PID      int    // 0: it stands for several
	Command  string // escaped
	State    string // proven, traced, untraced, or "" for an ancestor of another user
	Details  string
	Proof    int // the number of the first, or 0
	Children []*node

	process *event.Process
	life    *life
	parent  *node
}

// forest makes trees of lives and their parents, and folds processes that are alike. It also
// returns how many it left out, beside those that it folded.
func forest(lives []*life) (roots []*node, leftOut int) {
	nodes := map[string]*node{}
	var order []*node
	get := func(p *event.Process) *node {
		n := nodes[key(p)]
		if n == nil {
			n = &node{process: p}
			nodes[key(p)] = n
			order = append(order, n)
		}
		return n
	}
	for _, l := range lives {
		n := get(l.process)
		n.life = l
		p := l.process
		for depth := 0; p.Parent != nil && depth < maxParents; p, depth = p.Parent, depth+1 {
			parent := get(p.Parent)
			if n.parent == nil && !parent.below(n) {
				n.parent = parent
			}
			n = parent
		}
	}
	for _, n := range order {
		if n.parent == nil {
			roots = append(roots, n)
		} else {
			n.parent.Children = append(n.parent.Children, n)
		}
	}
	room := maxNodes
	roots = prune(roots, &room, &leftOut)
	return roots, leftOut
}

// below reports whether n is o or a descendant of it, or too deep to tell: a chain of forks can be
// as long as its maker wants. Documents are hostile: two may call each other parent.
func (n *node) below(o *node) bool {
	for depth := 0; n != nil; n, depth = n.parent, depth+1 {
		if n == o || depth > maxDepth {
			return true
		}
	}
	return false
}

// suspicious reports whether a proof is against n or a descendant.
func (n *node) suspicious() bool {
	return n.life != nil && n.life.proof > 0 || slices.ContainsFunc(n.Children, (*node).suspicious)
}

// prune folds siblings that are alike and drops what there is no room for. Nodes that lead to a
// proof come first.
func prune(nodes []*node, room, leftOut *int) []*node {
	suspicious := map[*node]bool{}
	for _, n := range nodes {
		suspicious[n] = n.suspicious()
	}
	slices.SortStableFunc(nodes, func(a, b *node) int {
		if suspicious[a] != suspicious[b] {
			return map[bool]int{true: -1, false: 1}[suspicious[a]]
		}
		return cmp.Or(a.process.Start.Compare(b.process.Start), cmp.Compare(a.process.PID, b.process.PID))
	})
	var kept, folds []*node
	alike := map[string]int{}
	fold := map[string]*folded{}
	var rest []*folded
	for _, n := range nodes {
		k := command(n.process)
		if len(n.Children) == 0 && n.life != nil {
			if alike[k]++; alike[k] > maxAlike {
				if fold[k] == nil {
					fold[k] = &folded{command: k}
					rest = append(rest, fold[k])
				}
				fold[k].add(n.life)
				continue
			}
		}
		if *room <= 0 {
			*leftOut += n.size()
			continue
		}
		*room--
		n.describe()
		kept = append(kept, n)
	}
	for _, f := range rest {
		if *room <= 0 {
			*leftOut += f.count
			continue
		}
		*room--
		folds = append(folds, f.node())
	}
	for _, n := range kept {
		n.Children = prune(n.Children, room, leftOut)
	}
	return append(kept, folds...)
}

func (n *node) size() int {
	size := 1
	for _, child := range n.Children {
		size += child.size()
	}
	return size
}

func (n *node) describe() {
	n.PID, n.Command = n.process.PID, clip(command(n.process), maxCommand)
	l := n.life
	if l == nil {
		return
	}
	n.State, n.Proof = l.state(), l.proof
	var d []string
	switch {
	case l.end.IsZero():
		d = append(d, "started "+clock(l.start))
	default:
		d = append(d, fmt.Sprintf("started %s, lived %s", clock(l.start), words.Length(l.end.Sub(l.start))))
	}
	if l.exit != nil {
		d = append(d, exit(*l.exit))
	}
	if l.foundBy != "" {
		d = append(d, "found by "+clip(l.foundBy, maxLabel))
	}
	switch {
	case l.trace != nil:
		c := &l.trace.Culprit
		d = append(d, "traced "+since(c))
		if c.Truncated {
			d = append(d, text.Size(c.Lost)+" of its trace not kept")
		}
	case l.traced:
		d = append(d, "in an ancestor's trace")
	case l.reason != nil:
		d = append(d, "not traced: "+clip(words.Untraced(*l.reason), maxLabel))
	default:
		d = append(d, "not traced")
	}
	n.Details = strings.Join(d, " · ")
}

// folded stands for siblings that run the same command.
type folded struct {
	command             string
	count, traced, ends int
	proofs              int
	total               time.Duration
}

func (f *folded) add(l *life) {
	f.count++
	if l.traced {
		f.traced++
	}
	if l.proof > 0 {
		f.proofs++
	}
	if !l.end.IsZero() {
		f.ends++
		f.total += l.end.Sub(l.start)
	}
}

func (f *folded) node() *node {
	n := &node{Command: clip(f.command, maxCommand), State: "untraced"}
	if f.traced > 0 {
		n.State = "traced"
	}
	n.Details = fmt.Sprintf("%d more of the same, %d traced", f.count, f.traced)
	if f.proofs > 0 {
		n.State = "proven"
		n.Details += fmt.Sprintf(", proofs against %d", f.proofs)
	}
	if f.ends > 0 {
		n.Details += ", mean life " + words.Length(f.total/time.Duration(f.ends))
	}
	return n
}
