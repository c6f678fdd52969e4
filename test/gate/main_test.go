// Package gate shows that no program is too short-lived, and that nobody is held up by what holds
// programs until strace is on them.
package gate

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
