// Package sensor shows that the kernel names the sender of a packet, and that the first
// packet's program does not get away.
package sensor

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
