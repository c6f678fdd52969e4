// Package containers shows that who sends out of a container is found, whatever network namespace that
// has, and named by it.
package containers

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) {
	before := leftCgroups()
	code := harness.Main(m)
	emptyCgroups(before)
	os.Exit(code)
}
