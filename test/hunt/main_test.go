// Package hunt shows that the program behind a packet is found and traced, and no other.
package hunt

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
