package testkit

import (
	"testing"
	"time"
)

// Patience is how long something may take that should be there at once: machines
// that test are busy ones. Who waits is told of what does not come, and loses nothing by waiting long.
const Patience = 90 * time.Second

// Eventually waits until ok returns nil, with [Patience]: then the test fails, naming what it
// waited for.
func Eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	Within(t, Patience, what, ok)
}

// Within waits until ok returns nil, but no longer than the limit: then the test fails.
func Within(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
