// Package harness is what the black-box tests share. Each test hunts real programs on the
// real kernel with the real culprit, in network and mount namespaces of its own, with a
// resolver in them.
//
// A package of tests calls [Main] from its TestMain. Its tests run as root; where a test
// cannot go on it fails, so all but a few functions here return no error.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Programs are what the tests run, in a directory that everybody can read.
var Programs struct{ Dir, Culprit, OffenderC, OffenderGo string }

// Main runs the tests of a package, and returns its exit status.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test skips itself
	}
	// What is in root's own directories other users cannot run. The last directory is that of scripts/deps.sh.
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH")+":/opt/culprit-test/bin")
	os.Unsetenv("NOTIFY_SOCKET")
	if err := provide(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(Programs.Dir)
	return m.Run()
}

// provide copies what make has built, or builds it.
func provide() (err error) {
	p := &Programs
	if p.Dir, err = os.MkdirTemp("", "culprit-test-"); err != nil {
		return err
	}
	if err := os.Chmod(p.Dir, 0o755); err != nil {
		return err
	}
	p.Culprit = filepath.Join(p.Dir, "culprit")
	p.OffenderC = filepath.Join(p.Dir, "offender-c")
	p.OffenderGo = filepath.Join(p.Dir, "offender-go")
	golang := os.Getenv("GO")
	if golang == "" {
		golang = "go"
	}
	built := os.Getenv("CULPRIT_OFFENDERS")
	for _, one := range []struct {
		from, to string
		build    []string
	}{
		{os.Getenv("CULPRIT_BIN"), p.Culprit, []string{golang, "build", "-buildvcs=false", "-o", p.Culprit, "../../cmd/culprit"}},
		{in(built, "offender-go"), p.OffenderGo, []string{golang, "build", "-buildvcs=false", "-o", p.OffenderGo, "../offender"}},
		{in(built, "offender-c"), p.OffenderC, []string{"cc", "-O2", "-static", "-o", p.OffenderC, "../offender/offender.c"}},
	} {
		cmd := exec.Command("install", "-m", "755", one.from, one.to)
		if one.from == "" {
			cmd = exec.Command(one.build[0], one.build[1:]...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return nil
}

func in(dir, file string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, file)
}
