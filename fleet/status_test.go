package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"culprit/fleet/sets"
)

// A host that has more rules and sets than a status has room for says how it is all the same, and how many rules it has.
func TestStatusFits(t *testing.T) {
	t.Parallel()
	for _, n := range []struct{ rules, sets int }{{10, 1}, {10_000, 1}, {10_000, 1000}} {
		s := Status{Host: "web1"}
		for i := range n.rules {
			s.Rules = append(s.Rules, fmt.Sprint("a-rule-with-a-name-", i))
		}
		for i := range n.sets {
			s.Sets = append(s.Sets, sets.Status{Name: fmt.Sprint("set", i), Reason: strings.Repeat("x", 300)})
		}
		doc, err := s.fit(MaxStatus)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadStatus("web1", doc)
		if err != nil {
			t.Fatal(err)
		}
		if max(len(got.Rules), got.RulesInAll) != n.rules || !slices.Equal(got.Rules, s.Rules[:len(got.Rules)]) || len(got.Sets) == 0 {
			t.Errorf("%+v: %d rules of %d, and %d sets are told", n, len(got.Rules), got.RulesInAll, len(got.Sets))
		}
	}
	if _, err := (Status{Host: "web1"}).fit(10); err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Error(err)
	}
}

// What a mirror could not read of a host is told, and not taken for how it is.
func TestStatusUnread(t *testing.T) {
	t.Parallel()
	doc, err := json.Marshal(Status{Host: "web1", Unread: "it is too long"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStatus("web1", doc); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
}
