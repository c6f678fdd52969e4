// Package evidence shows that what was seen can be relied upon: proofs, bundles, events, masking.
package evidence

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
