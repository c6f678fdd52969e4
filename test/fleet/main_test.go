// Package fleet shows what a host does as one of many: what it sends, and what it takes.
package fleet

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
