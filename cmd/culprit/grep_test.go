package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"culprit/evidence"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
)

// someEvidence makes an evidence directory with two captures: the first with two traces (the
// second one compressed), the second with one.
func someEvidence(t *testing.T) (dir string, traces []event.Trace) {
	t.Helper()
	dir = t.TempDir()
	s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i, uid := range []string{"7", "8"} {
		c := event.Capture{Event: event.Meta{ID: event.NewID()}, User: event.User{ID: uid}, Culprit: event.CaptureDetail{State: event.StateEnded}}
		s.Capture(c)
		for n := range 2 - i {
			tr := event.Trace{
				Event: event.Meta{ID: event.NewID()}, User: c.User,
				Process: event.Process{PID: 100 + 10*i + n, Name: "p:h p"},
				Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: event.StateEnded},
			}
			f, err := s.Create(&tr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(f, "# trace\n%d sendto(3, \"\\7BADZONE\\4test\") = 32\nred \x1b[31m\n", tr.Process.PID)
			f.Close()
			if n == 1 {
				if err := tracefile.Compress(t.Context(), tr.File.Path); err != nil {
					t.Fatal(err)
				}
			}
			s.Trace(tr)
			traces = append(traces, tr)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, traces
}

func runCommand(t *testing.T, cmd *cobra.Command, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestGrep(t *testing.T) {
	t.Parallel()
	dir, traces := someEvidence(t)
	var line, count, path []string
	for i, tr := range traces {
		where := fmt.Sprintf("%s %d-p_h_p:", tr.Culprit.Capture.ID, tr.Process.PID)
		line = append(line, fmt.Sprintf("%s2:%d sendto(3, \"\\7BADZONE\\4test\") = 32\n", where, tr.Process.PID))
		count = append(count, where+"1\n")
		path = append(path, tr.File.Path+map[bool]string{true: tracefile.Suffix}[i == 1]+"\n")
	}
	for _, tt := range []struct {
		args string
		want string
	}{
		{"BADZONE", strings.Join(line, "")},
		{"-i badzone", strings.Join(line, "")},
		{"-F \\7BAD", strings.Join(line, "")},
		{"-e BADZONE -e nothing", strings.Join(line, "")},
		{"-e -nothing -e =.32$", strings.Join(line, "")},
		{"--user 8 BADZONE", line[2]},
		{"--since 1h --capture " + traces[0].Culprit.Capture.ID + " BADZONE", line[0] + line[1]},
		{"--count BADZONE", strings.Join(count, "")},
		{"-l BADZONE", strings.Join(path, "")},
		{"--user 8 ^red", traces[2].Culprit.Capture.ID + " 110-p_h_p:3:red \\x1b[31m\n"},
	} {
		out, stderr, err := runCommand(t, newGrep(new(evidenceFlags)), append([]string{"--evidence", dir}, strings.Fields(tt.args)...)...)
		if err != nil || out != tt.want || stderr != "" {
			t.Errorf("%s: %v %s\n%s\nwant\n%s", tt.args, err, stderr, out, tt.want)
		}
	}

	out, _, err := runCommand(t, newGrep(new(evidenceFlags)), "--evidence", dir, "--json", "--user", "7", "^red")
	if err != nil {
		t.Fatal(err)
	}
	var m match
	first, rest, _ := strings.Cut(out, "\n")
	if err := json.Unmarshal([]byte(first), &m); err != nil || strings.Count(rest, "\n") != 1 || strings.Contains(out, "\x1b") {
		t.Errorf("%v in %q", err, out)
	}
	if m.Message != "red \x1b[31m" || m.Culprit.Line != 3 || m.Culprit.Trace.ID != traces[0].Event.ID || m.Process.PID != 100 || m.File.Path != traces[0].File.Path {
		t.Errorf("%+v", m)
	}
}

func TestGrepStatus(t *testing.T) {
	t.Parallel()
	dir, traces := someEvidence(t)
	grep := func(args ...string) (string, string, error) {
		return runCommand(t, newGrep(new(evidenceFlags)), append([]string{"--evidence", dir}, args...)...)
	}
	var status exitStatus
	if _, _, err := grep("nowhere"); !errors.As(err, &status) || status != 1 {
		t.Errorf("nothing found: %v", err)
	}
	for args, want := range map[string]string{
		"":                   "takes one pattern",
		"a b":                `unexpected argument "b"`,
		"-e a b":             `unexpected argument "b"`,
		"sendto(":            "is not a regular expression",
		"-l --count a":       "give one of",
		"--user no-such a":   "no user",
		"--capture ZZZZ a":   "no hit, capture, trace or snapshot",
		"--since whenever a": "is not a time",
	} {
		if _, _, err := grep(strings.Fields(args)...); !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
	// A missing file is reported; a damaged file is an error. The others are searched.
	if err := os.Remove(traces[0].File.Path); err != nil {
		t.Fatal(err)
	}
	out, stderr, err := grep("BADZONE")
	if err != nil || strings.Count(out, "\n") != 2 || !strings.Contains(stderr, "not searched: 1 trace ") {
		t.Errorf("%q, %q, %v", out, stderr, err)
	}
	if err := os.WriteFile(traces[1].File.Path+tracefile.Suffix, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, err = grep("BADZONE")
	if !errors.As(err, new(usageError)) || strings.Count(out, "\n") != 1 || !strings.Contains(stderr, traces[1].File.Path) {
		t.Errorf("%q, %q, %v", out, stderr, err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this test needs root: run it with make test")
	}
	dir, traces := someEvidence(t)
	file := dir + "/config.yaml"
	write := func(section string) {
		t.Helper()
		text := fmt.Sprintf("rules: [{name: a, string: b}]\nevidence: {dir: %s, min_free: 0B, %s}\n", dir, section)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("keep: 1h")
	out, _, err := runCommand(t, newPrune(), "-c", file, "--dry-run")
	if err != nil || !strings.HasPrefix(out, "2 traces would be compressed\nevidence: ") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = runCommand(t, newPrune(), "-c", file)
	if err != nil || !strings.HasPrefix(out, "2 traces compressed\nevidence: ") {
		t.Errorf("%v\n%s", err, out)
	}
	write("keep: 1s")
	for !strings.Contains(out, traces[2].File.Path+" would be removed") {
		if out, _, err = runCommand(t, newPrune(), "-c", file, "--dry-run"); err != nil {
			t.Fatal(err)
		}
	}
	out, _, err = runCommand(t, newPrune(), "-c", file)
	if err != nil || !strings.Contains(out, traces[0].File.Path+" removed: ") || !strings.Contains(out, "3 traces removed from the catalogue") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(traces[1].File.Path + tracefile.Suffix); err == nil {
		t.Error("an old trace is there")
	}
}
