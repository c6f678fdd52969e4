package sensor

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// What no way can do without is the reason for each, and nothing is left open.
func TestOpenWithoutMaps(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	s, err := Open(Config{Ways: Ways(), AtOnce: math.MaxUint32}) // more than a map can have
	if err != nil || s.Way() != WayNone || s.CanFreeze() {
		t.Fatalf("%v, %v", s.Way(), err)
	}
	if why := s.Unusable(); len(why) != len(Ways()) || !strings.Contains(why[0].Err.Error(), "culprit_stopped") {
		t.Errorf("%v", why)
	}
	s.Go(1)
	s.Counts()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What belongs to a process that lives is not removed, nor is what has another name.
func TestLeftBy(t *testing.T) {
	t.Parallel()
	prefix := filepath.Join(t.TempDir(), "culprit-C-")
	mine := fmt.Sprint(os.Getpid())
	for name, age := range map[string]time.Duration{"4194305": 0, mine: 0, "X-4194305": 0, "1": 1000 * time.Hour} {
		if err := os.WriteFile(prefix+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(prefix+name, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	// No process has the first PID, and PID 1 is younger than its file.
	if got, want := leftBy(prefix), []string{prefix + "1", prefix + "4194305"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
