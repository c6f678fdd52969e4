package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// Secrets are masked before they reach the disk, wherever a traced program shows them:
// arguments, its parent's too, environment, what it reads and writes. What is masked
// in the line that sent a packet still proves it.
func TestRedact(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	const secret, label = "hunter2-0c9f", "token81b4"
	d := h.Hunt(`
capture:
  levels: [{hits: 1, processes: 50, window: 10m, strings: 65535}]
  redact: ['passwd=(\S+?)(?:["\\ ]|$)', 'hunter2-\w+', 'token[0-9a-f]{4}']
log: {format: text, level: debug}
`)
	uid := harness.NewUID()
	// Whoever is found between fork and exec is logged with the command line from before. This
	// one is there, with its arguments, when the capture begins: they must reach the log.
	there := h.StartCommandAs(uid, exec.Command("/bin/sh", "-c", "read line", "there", "passwd="+secret))
	harness.Eventually(t, "it has its arguments", func() error {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", there.PID))
		if err == nil && !strings.Contains(string(line), secret) {
			err = fmt.Errorf("it is %q", line)
		}
		return err
	})
	d.Captured(uid)
	harness.Eventually(t, "it is in the log, masked", func() error {
		if !strings.Contains(d.Output.String(), "passwd=****") {
			return errors.New("not yet")
		}
		return nil
	})
	h.Write("secret", "passwd="+secret+"\n")
	script := h.Write("job", `#!/bin/sh
read line <`+filepath.Join(h.Dir, "secret")+`
echo "$line" >/dev/null
`+harness.Programs.OffenderC+` -n `+label+`.badzone.test -a 200
# `+secret+`
`)
	cmd := exec.Command(script, "passwd="+secret)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DATABASE=mysql://root:" + secret + "@db"}
	h.StartCommandAs(uid, cmd).Wait()
	hit := d.Hit(label + ".badzone.test")
	harness.Eventually(t, "the hit is proven", func() error {
		hit = d.Hit(label + ".badzone.test")
		if hit.Culprit.Proof == nil {
			return errors.New("not yet")
		}
		return nil
	})
	h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t)
	report := filepath.Join(h.Dir, "report.html")
	h.Culprit("report", "--evidence", d.Evidence, "--output", report, hit.Culprit.Capture.ID).Must(t)
	d.Stop()

	if log := d.Output.String(); strings.Contains(log, secret) || !strings.Contains(log, "passwd=****") {
		t.Errorf("the log shows the secret, or nothing masked:\n%s", log)
	}
	queries, arguments := 0, 0
	look := func(path string) {
		text, err := harness.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s holds the secret", path)
		}
		if strings.Contains(path, "/traces/") && bytes.Contains(text, []byte("+++ exited with")) {
			if bytes.Contains(text, []byte(label)) {
				t.Errorf("%s holds the label", path)
			}
			queries += bytes.Count(text, []byte(`*********\7badzone`))
			arguments += bytes.Count(text, []byte("passwd=************"))
		}
	}
	look(report)
	err := filepath.WalkDir(d.Evidence, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			look(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if queries == 0 || arguments == 0 {
		t.Errorf("the traces show %d queries and %d arguments, masked", queries, arguments)
	}
	if got := hit.Process; got == nil || got.Parent == nil || !strings.HasSuffix(got.Parent.CommandLine, "job passwd=************") {
		t.Errorf("the hit's process is %+v", got)
	}
	for _, tr := range d.Traces() {
		if tr.Event.ID == hit.Culprit.Proof.Trace.ID && tr.Culprit.State != event.StateEnded {
			t.Errorf("the trace is %+v", tr.Culprit)
		}
	}
}
