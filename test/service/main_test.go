// Package service shows what whoever operates culprit sees of it: metrics, reloads, systemd.
package service

import (
	"os"
	"testing"

	"culprit/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
