// Package settest makes sets for the tests of those who use them.
package settest

import (
	"testing"

	"culprit/lists/format"
	"culprit/lists/set"
)

// New makes a set of the entries of one list, /lists/feed.txt.
func New(t testing.TB, entries ...format.Entry) *set.Set {
	t.Helper()
	b, err := set.NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.File("/lists/feed.txt")
	for _, e := range entries {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	file, err := set.Temporary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := b.Build(file); err != nil {
		t.Fatal(err)
	}
	s, err := set.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
