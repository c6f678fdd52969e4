package lookback

import (
	"slices"

	"culprit/internal/proc"
)

// edge is the start of a process, or of its program.
type edge struct {
	parent proc.ID
	at     uint64
}

// starts returns who started whom.
func (r *Recorder) starts() map[proc.ID]edge {
	edges := map[proc.ID]edge{}
	r.walk(new(Story), 0, func(b []byte) bool {
		// Records of starts have this part first.
		return len(b) >= recParts+partBytes+vectorSize && u32(b, recParts+partKind) == partParent
	}, func(b []byte) {
		if len(edges) >= maxEdges {
			return
		}
		its := b[recParts+partBytes:]
		id := processOf(b)
		if old, known := edges[id]; !known || u64(b, recTime) < old.at {
			edges[id] = edge{idOf(u32(its, 0), u64(its, 8)), u64(b, recTime)}
		}
	})
	return edges
}

// lineage finds out who the parents are.
func (s *Story) lineage(of Sender, edges map[proc.ID]edge) {
	for id := of.ID; len(s.Processes) <= maxParents; {
		parent := proc.ID{}
		if e, known := edges[id]; known {
			parent = e.parent
		} else if at := len(s.Processes) - 1; at < len(of.Parents) && (at == 0 || of.Parents[at-1] == id) {
			parent = of.Parents[at]
		}
		if parent.PID <= 1 || slices.Contains(s.Processes, parent) {
			return
		}
		s.Processes = append(s.Processes, parent)
		id = parent
	}
}
