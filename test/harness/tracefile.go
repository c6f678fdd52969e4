package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"culprit/internal/event"
)

// ReadFile reads a trace file, which may be compressed by now.
func ReadFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return exec.Command("zstd", "-dcq", path+".zst").Output()
	}
	return text, err
}

// ReadTrace reads a trace file: its header and its footer by their keys, and the lines of
// strace. Keys that come twice keep the first.
func ReadTrace(t testing.TB, path string) (head, foot map[string]string, body string) {
	t.Helper()
	text, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, foot = map[string]string{}, map[string]string{}
	into := head
	for line := range strings.Lines(string(text)) {
		rest, comment := strings.CutPrefix(line, "# ")
		if !comment {
			into = foot
			body += line
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSuffix(rest, "\n"), ": ")
		if !ok {
			t.Errorf("%s: the comment line %q is not \"# key: value\"", path, line)
		}
		if _, twice := into[key]; !twice {
			into[key] = value
		}
	}
	return head, foot, body
}

// Tail is the end of a text that is too long to be shown.
func Tail(s string) string { return s[max(0, len(s)-1000):] }

// Whole checks that a trace has all of the life of a program that asked for a name,
// and says so, and which program that was.
func Whole(t *testing.T, tr event.Trace, label string) {
	t.Helper()
	Complete(t, tr, label)
	// The arguments of an execve that did not have to wait cannot always be read in
	// time; then the path stands for them.
	if tr.Process.Executable != Programs.OffenderC || !strings.Contains(tr.Process.CommandLine, label) && tr.Process.CommandLine != Programs.OffenderC {
		t.Errorf("the trace of %s, found by %s, says that it was %s: %.99q", label, tr.Culprit.FoundBy, tr.Process.Executable, tr.Process.CommandLine)
	}
}

// Complete checks that a trace has all of the life of a program that asked for a name,
// and says so.
func Complete(t *testing.T, tr event.Trace, label string) {
	t.Helper()
	c := &tr.Culprit
	_, _, body := ReadTrace(t, tr.File.Path)
	if !Asks(body, label) {
		t.Errorf("the trace of %s does not hold its query:\n%s", label, Tail(body))
	}
	switch c.FoundBy {
	case event.FoundGate, event.FoundUID, event.FoundFork, event.FoundExec:
	default:
		t.Errorf("%s was found by %s", label, c.FoundBy)
	}
	if !c.FromStart || c.Truncated || c.Lost != 0 {
		t.Errorf("the trace of %s, found by %s, is not whole: from start %v, truncated %v, lost %d; age %v ms, attached after %v ms; its execve is in it: %v",
			label, c.FoundBy, c.FromStart, c.Truncated, c.Lost, c.AgeMS, c.AttachMS, strings.Contains(body, "execve("))
	}
	if tr.Process.ExitCode == nil || *tr.Process.ExitCode != 0 {
		t.Errorf("the trace of %s does not show that it ended with 0: %q", label, c.EndedBecause)
	}
}

// Asks reports whether a trace shows that a query for the name was sent.
func Asks(body, label string) bool {
	for line := range strings.Lines(body) {
		if strings.Contains(line, "sendto(") && strings.Contains(line, label+`\`) {
			return true
		}
	}
	return false
}

// NextWhole checks that the programs that start now are traced from the start again.
func (d *Daemon) NextWhole(t *testing.T, uid uint32) {
	t.Helper()
	runs := d.Host.Stream(uid, 10, 1, Programs.OffenderC, "-n", "LABEL.nextzone.test").Await()
	for _, r := range runs {
		Whole(t, d.Trace(r.PID, "has ended", Ended), r.Label)
	}
}

// straceCommand is a command that culprit trace prints.
var straceCommand = regexp.MustCompile(`(?m)^strace -f -ttt -T -yy -v -s \d+ .*-p (\d+)$`)

// Printed waits until culprit trace has printed so many strace commands, and
// returns their PIDs.
func Printed(t *testing.T, p *Process, n int) (pids []string) {
	t.Helper()
	Eventually(t, fmt.Sprintf("culprit trace prints %d strace commands", n), func() error {
		pids = nil
		for _, m := range straceCommand.FindAllStringSubmatch(p.Output.String(), -1) {
			pids = append(pids, m[1])
		}
		if len(pids) != n {
			return fmt.Errorf("it printed:\n%s", p.Output)
		}
		return nil
	})
	return pids
}
