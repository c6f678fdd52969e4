package tracer

import "testing"

// Whoever only waits for a processor has not been let go on. Whoever runs, or sleeps, has.
func TestChances(t *testing.T) {
	t.Parallel()
	const polls = 1000
	for _, tt := range []struct {
		name  string
		state byte
		runs  bool // it has a processor
		known bool
		waits bool // SIGSTOP waits for it
		over  bool
	}{
		{"waits for a processor", 'R', false, true, false, false},
		{"runs", 'R', true, true, false, true},
		{"sleeps", 'S', false, true, false, true},
		{"kernel does not say", 'R', false, false, false, true},
		{"signal waits", 'S', false, true, true, false},
		{"signal waits, and it runs", 'R', true, true, true, false},
	} {
		var c chances
		var ran uint64 = 1_000_000
		over := false
		for range polls {
			if tt.runs {
				ran += 4_000_000
			}
			over = over || c.over(tt.waits, tt.state, ran, tt.known)
		}
		if over != tt.over {
			t.Errorf("%s: was let go on: %v", tt.name, over)
		}
	}
}
