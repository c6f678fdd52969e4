package harness

import (
	"testing"
	"time"

	"culprit/internal/testkit"
)

// Patience is [testkit.Patience].
const Patience = testkit.Patience

// Eventually is [testkit.Eventually].
func Eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	testkit.Eventually(t, what, ok)
}

// Within is [testkit.Within].
func Within(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	testkit.Within(t, limit, what, ok)
}
