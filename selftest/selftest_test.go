package selftest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// program returns the culprit in CULPRIT_BIN, or builds one.
func program(t *testing.T) string {
	t.Helper()
	testkit.Root(t)
	if path := os.Getenv("CULPRIT_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "culprit")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "culprit/cmd/culprit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build culprit: %v\n%s", err, out)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// clean fails a test that leaves files, or processes of root.
func clean(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	mark := "CULPRIT_SELFTEST=" + dir
	t.Setenv("CULPRIT_SELFTEST", dir)
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		processes, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range processes {
			// It may have ended meanwhile.
			if env, _ := os.ReadFile(path); bytes.Contains(env, []byte(mark)) {
				t.Errorf("a process is left behind: %s", path)
			}
		}
	})
}

func TestEverythingWorksHere(t *testing.T) {
	p := program(t)
	clean(t)
	r, err := Run(t.Context(), Options{Version: "test", Program: p})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Culprit.Checks {
		t.Logf("%-8s %-19s %s", c.Status, c.Name, c.Found)
		if c.Status != OK {
			t.Errorf("%s: %+v", c.Name, c)
		}
	}
	if n := len(r.Culprit.Checks); n != 16 {
		t.Errorf("%d checks, want 16", n)
	}
	if r.Event.Outcome == "failure" {
		t.Errorf("log:\n%s", strings.Join(r.Culprit.Log, "\n"))
	}
	t.Log(r.Culprit.Versions)
}

// Whenever it is interrupted, it leaves nothing behind.
func TestInterrupted(t *testing.T) {
	p := program(t)
	for _, after := range []time.Duration{0, 30 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			clean(t)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			r, err := Run(ctx, Options{Program: p})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range r.Culprit.Checks {
				if strings.Contains(c.Remedy, report) && c.Name != "proof" {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

func TestNoStrace(t *testing.T) {
	p := program(t)
	clean(t)
	t.Setenv("PATH", "/nonexistent") // iptables is found nevertheless
	r, err := Run(t.Context(), Options{Program: p})
	if err != nil {
		t.Fatal(err)
	}
	first := r.Culprit.Checks[0]
	if first.Status != Failed || !strings.Contains(first.Found, "install the package strace") || r.Event.Outcome != "failure" {
		t.Errorf("%+v", first)
	}
	if log := strings.Join(r.Culprit.Log, "\n"); !strings.Contains(log, "install the package strace") {
		t.Errorf("the log is %q", log)
	}
	if v := r.Culprit.Versions.String(); !strings.Contains(v, "no strace") {
		t.Error(v)
	}
}

func TestKeep(t *testing.T) {
	p := program(t)
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Run(ctx, Options{Program: p, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(r.Culprit.Kept); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", r.Culprit.Kept, info, err)
	}
}

// The offender is another user, who may execute its copy of the program.
func TestAProgramThatOnlyRootMayExecute(t *testing.T) {
	testkit.Root(t)
	clean(t)
	path := filepath.Join(t.TempDir(), "culprit")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := newSession(Options{Program: path})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.file.Stat()
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
