package test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
)

// reload writes a configuration over the daemon's and has it read it.
func (d *daemon) reload(t *testing.T, text, says string) {
	t.Helper()
	before := strings.Count(d.output.String(), `"message":"`+says+`"`)
	text += fmt.Sprintf("\nlog: {format: json, level: debug}\nevidence: {dir: %s}\n", d.evidence)
	if err := os.WriteFile(d.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.signal(syscall.SIGHUP)
	eventually(t, "the daemon says that it has "+says, func() error {
		if strings.Count(d.output.String(), `"message":"`+says+`"`) <= before {
			return fmt.Errorf("it has not")
		}
		return nil
	})
}

const refused = "the configuration was not reloaded, the one in force stays"

// A changed configuration is put into force while captures run; one with mistakes is
// refused, and nothing changes.
func TestReload(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		d := h.hunt(longWindow + badzone)
		uid := newUID()
		s := h.sender(uid)
		s.ask("one.badzone.test")
		first := d.hit("one.badzone.test")
		traced(t, s.process)
		for _, bad := range []string{
			"rules: [{name: badzone, string: BADZONE, strnig: x}]",
			"rules: []",
			longWindow + badzone + "nflog: {group: 5354}",
			longWindow + badzone + "firewall: {chain: OTHER}",
			"rules: [{name: badzone, string: BADZONE",
		} {
			held := h.firewall()
			d.reload(t, bad, refused)
			h.unchanged(held, "after a configuration that was refused")
		}
		s.ask("two.badzone.test")
		d.hit("two.badzone.test")

		other := newUID()
		d.reload(t, longWindow+"rules: [{name: worse, domain: worse.test}, {name: badzone, string: BADZONE}]\nguard: {never_users: ["+fmt.Sprint(other)+"]}", "reloaded")
		s.ask("three.badzone.test")
		s.ask("x.worse.test")
		if hit := d.hit("x.worse.test"); hit.Rule.Name != "worse" || hit.Culprit.Capture == nil || hit.Culprit.Capture.ID != first.Culprit.Capture.ID {
			t.Errorf("the hit of the new rule is %+v, want it in the capture %s that was running", hit, first.Culprit.Capture.ID)
		}
		o := h.sender(other)
		o.ask("never.badzone.test")
		if hit := d.hit("never.badzone.test"); !strings.Contains(words.NoCapture(hit.Culprit.NoCapture), "guard.never_users") {
			t.Errorf("the hit of a user that the new configuration excludes: %+v", hit.Culprit)
		}

		d.reload(t, longWindow+"rules: [{name: worse, domain: worse.test}]", "reloaded")
		s.ask("four.badzone.test")
		s.ask("y.worse.test")
		d.hit("y.worse.test")
		for _, hit := range d.hits() {
			if hit.DNS.Question.Name == "four.badzone.test" {
				t.Errorf("a hit of a rule that is gone: %+v", hit)
			}
		}
		if cs := d.captures(); len(cs) != 1 || cs[0].Culprit.State != event.StateRunning {
			t.Errorf("the captures are %+v, want the one that was running", cs)
		}
		traced(t, s.process)
		d.stop()
		h.unchanged(before, "after the hunt")
	})
}

// No packet that the old and the new rules look for is missed.
func TestReloadGap(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		d := h.hunt(longWindow + badzone)
		s := h.sender(newUID())
		var sent atomic.Int64
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					s.ask(fmt.Sprintf("q%d.badzone.test", sent.Add(1)))
				}
			}
		}()
		for i := range 6 {
			d.reload(t, longWindow+fmt.Sprintf("rules: [{name: other%d, string: other}, {name: badzone, string: BADZONE}]", i), "reloaded")
		}
		close(stop)
		<-done
		d.hit(fmt.Sprintf("q%d.badzone.test", sent.Load()))
		seen := map[string]bool{}
		for _, hit := range d.hits() {
			seen[hit.DNS.Question.Name] = true
		}
		if int64(len(seen)) != sent.Load() {
			t.Errorf("%d of %d packets were hits", len(seen), sent.Load())
		}
		d.stop()
	})
}
