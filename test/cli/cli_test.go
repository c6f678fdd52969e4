package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

func TestCheckAndDoctor(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	before := h.Firewall()
	config, _ := h.Configure("rules: [{name: a, string: bad.zone}, {name: b, domain: bad.zone}]\n")
	r := h.Culprit("check", "-c", config)
	if r.Must(t); !strings.Contains(r.Out, "is good: 2 rules") || !strings.Contains(r.Errors, "use domain: bad.zone") {
		t.Errorf("culprit check said\n%s%s", r.Out, r.Errors)
	}
	h.Culprit("check", "-c", "../../config.example.yaml").Must(t)
	doctor := exec.Command(harness.Programs.Culprit, "doctor", "-c", config)
	got := h.Command(doctor).Must(t)
	for _, want := range []string{"iptables", "ip6tables", "xt_string", "NFLOG", "group 5353 is free", "strace", "proc connector", "inet_diag", "ptrace", "evidence directory"} {
		if !strings.Contains(got, want) {
			t.Errorf("culprit doctor does not say %q:\n%s", want, got)
		}
	}
	h.Unchanged(before, "after culprit doctor")
	d := h.HuntWith(config, filepath.Join(h.Dir, "x"))
	if got := h.Command(exec.Command(harness.Programs.Culprit, "doctor", "-c", config)); !strings.Contains(got.Out, fmt.Sprint(d.PID)) {
		t.Errorf("culprit doctor does not name who holds the group, %d:\n%s", d.PID, got.Out)
	}
	d.Stop()
}

// Who only looks at a fleet needs no rule; who hunts does.
func TestNoRule(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	looks := h.Write("looks.yaml", "fleet: {servers: [\"nats://127.0.0.1:1\"]}\nevidence: {dir: "+t.TempDir()+"}\n")
	if r := h.Culprit("check", "-c", looks); r.Code != 0 || !strings.Contains(r.Errors, "warning: rules: there is none") || !strings.Contains(r.Out, "is good: 0 rules") {
		t.Errorf("culprit check: %d, %s%s", r.Code, r.Out, r.Errors)
	}
	for _, args := range []string{"fleet hosts --offline --mirror " + t.TempDir(), "hits"} {
		if r := h.Culprit(append(strings.Fields(args), "-c", looks)...); strings.Contains(r.Errors, "no rule") || r.Code == 2 {
			t.Errorf("culprit %s: %d, %s", args, r.Code, r.Errors)
		}
	}
	h.Culprit("run", "-c", looks).Fails(t, 2, "rules: no rule: add at least one")
	nothing := h.Write("nothing.yaml", "evidence: {dir: "+t.TempDir()+"}\n")
	h.Culprit("check", "-c", nothing).Fails(t, 2, "rules: no rule: add at least one")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	for _, c := range []struct {
		args string
		code int
	}{
		{"version", 0},
		{"--help", 0},
		{"run --help", 0},
		{"--bogus", 2},
		{"run --bogus", 2},
		{"hits --bogus", 2},
		{"hits extra", 2},
		{"hits --since yesterday", 2},
		{"hits --user no-such-user", 2},
		{"hits -n -1", 2},
		{"hits -c x --evidence y", 2},
		{"show", 2},
		{"show a b", 2},
		{"rules", 2},
		{"rules bogus", 2},
		{"rules print extra", 2},
		{"version extra", 2},
		{"bogus", 2},
	} {
		t.Run(c.args, func(t *testing.T) {
			h.T = t
			r := h.Culprit(strings.Fields(c.args)...)
			if r.Code != c.code {
				t.Errorf("exit status %d, want %d; it said:\n%s%s", r.Code, c.code, r.Out, r.Errors)
			}
			if c.code == 2 && (r.Out != "" || strings.Count(r.Errors, "\n") != 1) {
				t.Errorf("want one line on standard error; it said:\n%s%s", r.Out, r.Errors)
			}
		})
	}
	h.T = t
	if got := h.Culprit("version").Must(t); !strings.HasPrefix(got, "culprit ") {
		t.Errorf("culprit version said %s", got)
	}
}
