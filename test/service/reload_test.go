package service

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// A configuration that is gone, or cannot be read, when it is to be read again changes
// nothing.
func TestReloadUnreadable(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.LongWindow)
	installed := h.Firewall()
	for i, harm := range []func() error{
		func() error { return os.Remove(d.Config) },
		func() error { return os.Mkdir(d.Config, 0o755) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		d.Signal(syscall.SIGHUP)
		harness.Eventually(t, "it says that the configuration was refused", func() error {
			if strings.Count(d.Output.String(), `"message":"`+refused+`"`) <= i {
				return os.ErrNotExist
			}
			return nil
		})
	}
	h.Unchanged(installed, "after a configuration that cannot be read")
	s := h.Sender(harness.NewUID())
	s.Ask("x.badzone.test")
	harness.Traced(t, s.Process)
	d.Stop()
}

// reload writes a configuration over the daemon's and has it read it.
func reload(t *testing.T, d *harness.Daemon, text, says string) {
	t.Helper()
	before := strings.Count(d.Output.String(), `"message":"`+says+`"`)
	text += fmt.Sprintf("\nlog: {format: json, level: debug}\nevidence: {dir: %s}\n", d.Evidence)
	if err := os.WriteFile(d.Config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Signal(syscall.SIGHUP)
	harness.Eventually(t, "the daemon says that it has "+says, func() error {
		if strings.Count(d.Output.String(), `"message":"`+says+`"`) <= before {
			return fmt.Errorf("it has not")
		}
		return nil
	})
}

const refused = "the configuration was not reloaded: the old one stays in force"

// A changed configuration is put into force while captures run; one with mistakes is
// refused, and nothing changes.
func TestReload(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		d := h.Hunt(harness.LongWindow + harness.Badzone)
		uid := harness.NewUID()
		s := h.Sender(uid)
		s.Ask("one.badzone.test")
		first := d.Hit("one.badzone.test")
		harness.Traced(t, s.Process)
		for _, bad := range []string{
			"rules: [{name: badzone, string: BADZONE, strnig: x}]",
			"rules: []",
			harness.LongWindow + harness.Badzone + "nflog: {group: 5354}",
			harness.LongWindow + harness.Badzone + "firewall: {chain: OTHER}",
			"rules: [{name: badzone, string: BADZONE",
		} {
			held := h.Firewall()
			reload(t, d, bad, refused)
			h.Unchanged(held, "after a configuration that was refused")
		}
		s.Ask("two.badzone.test")
		d.Hit("two.badzone.test")

		other := harness.NewUID()
		reload(t, d, harness.LongWindow+"rules: [{name: worse, domain: worse.test}, {name: badzone, string: BADZONE}]\nguard: {never_users: ["+fmt.Sprint(other)+"]}", "reloaded")
		s.Ask("three.badzone.test")
		s.Ask("x.worse.test")
		if hit := d.Hit("x.worse.test"); hit.Rule.Name != "worse" || hit.Culprit.Capture == nil || hit.Culprit.Capture.ID != first.Culprit.Capture.ID {
			t.Errorf("the hit of the new rule is %+v, want it in the capture %s that was running", hit, first.Culprit.Capture.ID)
		}
		o := h.Sender(other)
		o.Ask("never.badzone.test")
		if hit := d.Hit("never.badzone.test"); !strings.Contains(words.NoCapture(hit.Culprit.NoCapture), "guard.never_users") {
			t.Errorf("the hit of a user that the new configuration excludes: %+v", hit.Culprit)
		}

		reload(t, d, harness.LongWindow+"rules: [{name: worse, domain: worse.test}]", "reloaded")
		s.Ask("four.badzone.test")
		s.Ask("y.worse.test")
		d.Hit("y.worse.test")
		for _, hit := range d.Hits() {
			if hit.DNS.Question.Name == "four.badzone.test" {
				t.Errorf("a hit of a rule that is gone: %+v", hit)
			}
		}
		if cs := d.Captures(); len(cs) != 1 || cs[0].Culprit.State != event.StateRunning {
			t.Errorf("the captures are %+v, want the one that was running", cs)
		}
		harness.Traced(t, s.Process)
		d.Stop()
		h.Unchanged(before, "after the hunt")
	})
}

// No packet that the old and the new rules look for is missed.
func TestReloadGap(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		d := h.Hunt(harness.LongWindow + harness.Badzone)
		stop := h.Sender(harness.NewUID()).AskOn()
		for i := range 6 {
			reload(t, d, harness.LongWindow+fmt.Sprintf("rules: [{name: other%d, string: other}, {name: badzone, string: BADZONE}]", i), "reloaded")
		}
		if sent, hits := stop(d); hits != sent {
			t.Errorf("%d of %d packets were hits", hits, sent)
		}
		d.Stop()
	})
}
