package fleet

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"culprit/test/harness"
)

// A host without a fleet has nothing of it: no goroutine, and so no connection. What the runtime prints of all goroutines at SIGQUIT says so;
// that of a host with a fleet, that it would.
func TestWithoutFleet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	goroutines := func(block string) string {
		t.Helper()
		config, evidence := s.Configure(harness.Badzone + block)
		d := s.HuntWith(config, evidence, "GOTRACEBACK=all")
		d.Signal(syscall.SIGQUIT)
		d.Wait()
		d.Gone()
		dump := d.Output.String()
		harness.Eventually(t, "the goroutines", func() error {
			if dump = d.Output.String(); !strings.Contains(dump, "culprit/capture.") {
				return errors.New("the controller is not among them")
			}
			return nil
		})
		return dump
	}
	parts := []string{"nats-io/nats.go", "culprit/fleet.", "culprit/fleet/"}
	with, without := goroutines(s.block("rules")), goroutines("")
	for _, part := range parts {
		if !strings.Contains(with, part) {
			t.Errorf("a host of a fleet has no goroutine of %s", part)
		}
		if strings.Contains(without, part) {
			t.Errorf("a host without a fleet has a goroutine of %s:\n%s", part, without)
		}
	}
}
