package proc

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"culprit/internal/event"
)

// A long chain of parents keeps both ends, and counts what is between them.
func TestLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ parents, text, want int }{
		{0, 10, 0}, {1, 10, 1}, {20, 300, 20}, {2, maxAncestry, 0}, {60, 1000, 14}, {60, 3000, 5},
	} {
		var parents []ancestor
		for i := range c.parents {
			parents = append(parents, newAncestor(event.Process{PID: c.parents - i, CommandLine: strings.Repeat("x", c.text)}))
		}
		p := event.Process{PID: 1000}
		link(&p, parents)
		var kept []int
		left, above := 0, ""
		for at := &p; at != nil; at = at.Parent {
			left += at.LeftOut
			if at != &p {
				kept = append(kept, at.PID)
			}
			if at.LeftOut > 0 {
				above = fmt.Sprint(at.PID)
			}
		}
		if left != c.parents-len(kept) || (left == 0) != (above == "") {
			t.Errorf("of %d parents %v are kept, and %d left out", c.parents, kept, left)
		}
		if c.want > 0 && (kept[0] != c.parents || kept[len(kept)-1] != 1) {
			t.Errorf("of %d parents %v are kept, want both ends", c.parents, kept)
		}
		whole, err := json.Marshal(p.Parent)
		if err != nil {
			t.Fatal(err)
		}
		if len(kept) != c.want || len(whole) > maxAncestry {
			t.Errorf("of %d parents with %d bytes %d are kept, of %d bytes; want %d", c.parents, c.text, len(kept), len(whole), c.want)
		}
		if n := len(p.Ancestry()); left > 0 && n != len(kept)+1 || left == 0 && n != len(kept) {
			t.Errorf("for people: %q", p.Ancestry())
		}
	}
}
