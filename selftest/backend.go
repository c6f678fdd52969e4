package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"culprit/rules"
)

// A backend is one flavour of iptables. Both can be installed; the plain names of the commands
// mean one of them.
type backend struct {
	name string // nft or legacy
	dir  string // where the plain names of the commands mean this backend
	own  bool   // the plain names mean it on this machine
	// absent says, by family, why the machine lacks the backend.
	absent map[string]string
}

var families = []string{"ipv4", "ipv6"}

// findBackends looks for both, and makes a directory below dir for each, in which the plain
// names of the commands mean that backend. The machine's own comes first.
func findBackends(ctx context.Context, dir string) []backend {
	plain := iptablesVersion(ctx).Backend
	var all []backend
	for _, name := range []string{rules.BackendNFT, rules.BackendLegacy} {
		b := backend{name: name, dir: filepath.Join(dir, name), own: plain == name, absent: map[string]string{}}
		for _, family := range families {
			if err := b.link(rules.ToolName(family)); err != nil {
				b.absent[family] = err.Error()
			}
		}
		all = append(all, b)
	}
	if all[1].own {
		slices.Reverse(all)
	}
	return all
}

// link links a command and its -save under their plain names. They are all one program, which
// behaves according to the name by which it is called.
func (b *backend) link(command string) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-save"} {
		path, err := rules.LookPath(command + "-" + b.name + suffix)
		if err != nil && b.own {
			path, err = rules.LookPath(command + suffix)
		}
		if err != nil {
			return fmt.Errorf("there is no %s-%s%s", command, b.name, suffix)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
		if err := os.Symlink(path, filepath.Join(b.dir, command+suffix)); err != nil {
			return err
		}
	}
	return nil
}

// leftovers lists what is left in the firewall of the calling thread's namespace, which should
// be empty.
func (b *backend) leftovers(ctx context.Context, family string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	save := filepath.Join(b.dir, rules.ToolName(family)+"-save")
	out, err := exec.CommandContext(ctx, save).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, fmt.Errorf("run %s: %w: %s", save, err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("run %s: %w", save, err)
	}
	return leftIn(string(out), b.name), nil
}

// leftIn lists what iptables-save shows of a firewall that should be empty. It ignores tables
// of iptables-legacy, which the kernel keeps once they were used.
func leftIn(saved, backend string) (left []string) {
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		builtin := strings.HasPrefix(line, ":") && !strings.Contains(line, " - ")
		switch {
		case line == "", line == "COMMIT", strings.HasPrefix(line, "#"):
		case backend == rules.BackendLegacy && (strings.HasPrefix(line, "*") || builtin):
		default:
			left = append(left, line)
		}
	}
	return left
}
