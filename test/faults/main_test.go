package faults

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
