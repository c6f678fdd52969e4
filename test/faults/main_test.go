// Package faults shows what happens when something goes wrong. The faults, and the test of
// each, are listed in docs/reliability.md.
package faults

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
