package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"culprit/internal/event"
	"culprit/test/harness"
)

// evil is what a terminal, a log or a reader could be fooled with.
const evil = "\x1b[31mred\x1b]0;title\a\nforged line\r\t\u202eltr\u2028\u009b\xff\x7f"

// raw finds characters that must not be printed as they are. Line ends are the
// caller's to judge.
func raw(text string) string {
	for i, r := range text {
		// What is no UTF-8 comes as U+FFFD here, and so does U+FFFD itself.
		if r != '\n' && (!unicode.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd")) {
			return fmt.Sprintf("%U in %q", r, text[max(0, i-30):min(len(text), i+30)])
		}
	}
	return ""
}

// What the adversary writes in arguments, program names and DNS names is escaped
// wherever it is printed.
func TestEscape(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			d := h.Hunt(harness.LongWindow + "log: {format: " + format + ", level: debug}\n")
			// The file's name becomes the kernel's comm.
			program := filepath.Join(h.Dir, "\x1b[1m\n\u202ex")
			if err := os.Link(harness.Programs.OffenderC, program); err != nil {
				t.Fatal(err)
			}
			uid := harness.NewUID()
			cmd := exec.Command(program, "-n", "x.badzone.test", "-a", "600000")
			cmd.Args[0] = evil
			p := h.StartCommandAs(uid, cmd)
			tr := d.Trace(p.PID, "is there", nil)
			hit := d.Hit("x.badzone.test")
			if hit.Process == nil || hit.Process.PID != p.PID {
				t.Errorf("the origin is %+v, want %d", hit.Culprit.Origin, p.PID)
			}
			// A name with control characters in it.
			s := h.Sender(harness.NewUID())
			label := "\x1b[2J\n."
			s.Raw("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + string(rune(len(label))) + label + "\x07badzone\x04test\x00\x00\x01\x00\x01")
			hostile := d.Hit(`\027[2j\010\046.badzone.test`)
			harness.Traced(t, s.Process)
			d.Stop()

			printed := map[string]string{"the log": d.Output.String()}
			for _, args := range [][]string{
				{"hits"},
				{"captures"},
				{"traces"},
				{"show", hit.Event.ID},
				{"show", hostile.Event.ID},
				{"show", tr.Event.ID},
				{"show", tr.Culprit.Capture.ID},
			} {
				out := h.Culprit(slices.Insert(args, 1, "--evidence", d.Evidence)...).Must(t)
				printed["culprit "+strings.Join(args, " ")] = out
				if strings.Contains(out, "\nforged line") {
					t.Errorf("culprit %v prints a forged line:\n%s", args, out)
				}
			}
			for _, want := range []string{"culprit hits", "culprit traces", "culprit show " + tr.Event.ID} {
				if !strings.Contains(printed[want], `\x1b[31mred`) {
					t.Errorf("%s does not show the command line at all:\n%s", want, printed[want])
				}
			}
			text, err := harness.ReadFile(tr.File.Path)
			if err != nil {
				t.Fatal(err)
			}
			printed["the trace"] = string(text)
			if !strings.Contains(string(text), `# command line: \x1b[31mred\x1b]0;title\a\nforged line\r\t\u202eltr\u2028\u009b\xff\x7f -n`) {
				t.Errorf("the trace's header does not have the command line:\n%s", text)
			}
			harness.ReadTrace(t, tr.File.Path) // every comment has its key
			for what, text := range printed {
				if found := raw(text); found != "" {
					t.Errorf("%s has %s", what, found)
				}
			}
			if name := filepath.Base(tr.File.Path); raw(name) != "" || strings.ContainsAny(name, " \n") {
				t.Errorf("the file of the trace is called %q", name)
			}
			for line := range strings.Lines(d.Output.String()) {
				var doc map[string]any
				if format == "json" && json.Unmarshal([]byte(line), &doc) != nil {
					t.Errorf("a line of the log is no JSON: %s", line)
				}
				if format == "text" && !strings.HasPrefix(line, "time=") {
					t.Errorf("a line of the log was forged: %s", line)
				}
			}
			// Machines get what it was.
			for _, tr := range harness.List[event.Trace](d, "traces", "--user", fmt.Sprint(uid)) {
				if !strings.HasPrefix(tr.Process.CommandLine, "\x1b[31mred\x1b]0;title\a\nforged line\r\t\u202eltr") {
					t.Errorf("--json has the command line %q", tr.Process.CommandLine)
				}
			}
		})
	}
}
