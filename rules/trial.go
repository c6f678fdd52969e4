package rules

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"culprit/internal/config"
)

// Fits says why rules with this sensing cannot be used on this machine, by trying them: each in a
// network namespace of its command's own, which ends with the command. nil: they can, or that
// cannot be tried here.
func Fits(ctx context.Context, c *config.Config, sensing Sensing) error {
	for _, family := range families {
		path, err := LookPath(ToolName(family))
		if err != nil || family == "ipv6" && !hasIPv6() {
			continue // New says so
		}
		v, err := FindVersion(ctx, path)
		if err != nil {
			return err
		}
		if sensing.Pin != "" && v.Backend == BackendLegacy {
			return errors.New("iptables is of the legacy flavour, where each change of anybody loads all rules again: without its pin ours would make that fail")
		}
		trial, err := Trial(c, family, sensing)
		if err != nil {
			return err
		}
		for _, r := range trial {
			if err := tryRule(ctx, path, c.Firewall.Table, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// IsLegacy reports whether iptables or ip6tables is of the legacy flavour.
func IsLegacy(ctx context.Context) bool {
	for _, family := range families {
		if path, err := LookPath(ToolName(family)); err == nil {
			if v, err := FindVersion(ctx, path); err == nil && v.Backend == BackendLegacy {
				return true
			}
		}
	}
	return false
}

func tryRule(ctx context.Context, path, table string, r Rule) error {
	// -w, because all namespaces share the lock of the legacy flavour.
	cmd := exec.CommandContext(ctx, path, append([]string{"-w", "2", "-t", table, "-I", hook}, r.Args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) { // without a namespace there is no trial
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("try its rule with %s: %s", path, lines[len(lines)-1])
}
