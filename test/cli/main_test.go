// Package cli shows what the commands print, and take.
package cli

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
