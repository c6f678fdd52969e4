package sensor

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"culprit/test/harness"
)

// Where a pin that is gone would keep others from changing their firewall, the way "rule" is refused.
func TestRuleWithLegacy(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "legacy")
	before := h.Firewall()
	config, evidence := h.Configure("sensor: rule\n")
	d := h.Launch(config, evidence)
	if got := d.Wait(); got != 1 {
		t.Errorf("the daemon ended with %d", got)
	}
	for _, want := range []string{"sensor: rule: iptables is of the legacy flavour", "choose another way, or auto"} {
		if !strings.Contains(d.Output.String(), want) {
			t.Errorf("the daemon does not say %q", want)
		}
	}
	h.Unchanged(before, "after a daemon that did not start")
	r := h.Culprit("doctor", "-c", config)
	r.Fails(t, 1, "1 failed check")
	if !strings.Contains(r.Out, "sensor: rule: nflog works, too; rule does not work: iptables is of the legacy flavour") || !strings.Contains(r.Out, "nflog, which works here") {
		t.Errorf("the doctor says:\n%s", r.Out)
	}
}

// The rules of a daemon are healthy for other processes, too, and stay as they are. Whatever it
// leaves when it is killed together with its helpers, "rules remove" removes.
func TestRulesOfADaemon(t *testing.T) {
	t.Parallel()
	eachWayAndBackend(t, func(t *testing.T, h *harness.Host, way string) {
		before := h.Firewall()
		d := h.Hunt("sensor: " + way + "\n")
		installed := h.Firewall()
		h.Culprit("rules", "status", "-c", d.Config).Must(t)
		h.Culprit("rules", "install", "-c", d.Config).Must(t)
		h.Unchanged(installed, "after rules install beside a daemon")
		pinned := func() string {
			return h.Must(t, "sh", "-c", "find $(findmnt -nt bpf -o TARGET) -name 'culprit-CULPRIT-*' 2>/dev/null; true")
		}
		if got := pinned(); (got != "") != (way == "rule") {
			t.Errorf("pinned: %q", got)
		}
		kill := func() {
			for pid := range d.Left() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			d.Wait()
		}
		old := pinned()
		kill()
		d = h.HuntWith(d.Config, d.Evidence) // puts all right, too
		if got := pinned(); (got != "") != (way == "rule") || strings.Count(got, "\n") > 1 || got == old && way == "rule" {
			t.Errorf("after a restart these are pinned: %q, before: %q", got, old)
		}
		kill()
		h.Culprit("rules", "remove").Must(t)
		h.Unchanged(before, "after rules remove")
		if got := pinned(); got != "" {
			t.Errorf("still pinned: %q", got)
		}
	})
}

// Without the privileges of BPF there is no sensor: the doctor says what is missing, and the hunt goes on.
func TestWithoutBPF(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, _ := h.Configure("capture: {gate: off}\n")
	bounded := func(args ...string) *exec.Cmd {
		args = append([]string{"--no-new-privs", "--inh-caps=-all", "--bounding-set=-sys_admin,-bpf,-perfmon", harness.Programs.Culprit}, args...)
		return exec.Command("setpriv", args...)
	}
	r := h.Command(bounded("doctor", "-c", config))
	if !strings.Contains(r.Out, "the kernel cannot say who sends a packet: nflog does not work: ") || !strings.Contains(r.Out, "give it CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN") {
		t.Errorf("the doctor says:\n%s", r.Out)
	}
	d := h.StartCommandAs(0, bounded("run", "-c", config))
	harness.Eventually(t, "the daemon is ready", func() error {
		if log := d.Output.String(); !strings.Contains(log, `"message":"ready"`) || !strings.Contains(log, "no sensor") {
			return errors.New(log)
		}
		return nil
	})
	d.Signal(syscall.SIGTERM)
	if got := d.Wait(); got != 0 {
		t.Errorf("the daemon ended with %d", got)
	}
}
