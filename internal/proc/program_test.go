package proc

import (
	"testing"

	"culprit/internal/event"
)

// An ending process has lost its command line, so the known one stays.
func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ known, is, want event.Process }{
		{event.Process{}, event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}, event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}},
		{event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}, event.Process{Name: "a", Executable: "/a"}, event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}},
		{event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}, event.Process{Name: "a", Executable: "/a", CommandLine: "/a"}, event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}},
		{event.Process{Name: "a", Executable: "/a", CommandLine: "a b"}, event.Process{Name: "c", Executable: "/c", CommandLine: "/c"}, event.Process{Name: "c", Executable: "/c", CommandLine: "/c"}},
	} {
		doc := tt.known
		Program{tt.is.Name, tt.is.Executable, tt.is.CommandLine}.Update(&doc)
		if doc.Name != tt.want.Name || doc.Executable != tt.want.Executable || doc.CommandLine != tt.want.CommandLine {
			t.Errorf("%+v, then %+v: %+v", tt.known, tt.is, doc)
		}
	}
}
