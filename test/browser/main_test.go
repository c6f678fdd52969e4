// Package browser shows culprit serve to a real headless Chromium.
package browser

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
