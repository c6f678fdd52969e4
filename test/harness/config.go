package harness

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Badzone is the rule of tests that are not about rules.
const Badzone = "rules: [{name: badzone, string: BADZONE}]\n"

// LongWindow is a configuration whose captures end only with the daemon.
const LongWindow = "capture: {levels: [{hits: 1, processes: 200, window: 10m, strings: 512}], concurrent: 64}\n"

// Gated is a configuration whose captures take all that comes, with a gate that
// waits so long that it need not on a busy machine.
const Gated = `capture:
  levels: [{hits: 1, processes: 100000, window: 10m, strings: 512}]
  concurrent: 64
  gate_deadline: 5s
`

// Quick is the same with a deadline that tests can wait for.
var Quick = strings.Replace(Gated, "5s", "300ms", 1)

// Configure writes a configuration with an evidence directory of its own, and returns where
// both are. The rule is Badzone and the log is one that the test can read, unless the text
// says otherwise.
func (h *Host) Configure(text string) (config, evidence string) {
	h.T.Helper()
	h.Started++
	name := fmt.Sprint("culprit", h.Started)
	evidence = filepath.Join(h.T.TempDir(), name)
	return h.ConfigureIn(evidence, text), evidence
}

// ConfigureIn is Configure for an evidence directory that the test chooses.
func (h *Host) ConfigureIn(evidence, text string) (config string) {
	h.T.Helper()
	if !strings.Contains(text, "rules:") {
		text += "\n" + Badzone
	}
	if !strings.Contains(text, "log:") {
		text += "\nlog: {format: json, level: debug}\n"
	}
	if !strings.Contains(text, "evidence:") {
		text += fmt.Sprintf("\nevidence: {dir: %s}\n", evidence)
	}
	return h.Write(fmt.Sprintf("config%d.yaml", h.Started), text)
}

// ByFanotify makes a configuration hold programs by the gate, ByBPF by the kernel alone.
func ByFanotify(config string) string { return by("fanotify", config) }

// ByBPF is described with [ByFanotify].
func ByBPF(config string) string { return by("bpf", config) }

func by(gate, config string) string {
	return strings.Replace(config, "capture:\n", "capture:\n  gate: "+gate+"\n", 1)
}
