package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"culprit/internal/config"
	"culprit/rules"
)

// lookPath finds a command. remedy says what to do if it is missing.
func lookPath(command, pkg string) (path, remedy string, err error) {
	path, err = exec.LookPath(command)
	if err == nil {
		return path, "", nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, command)); err == nil {
			return "", fmt.Sprintf("%s exists, but %s is not in PATH: PATH=$PATH:%s culprit doctor", p, dir, dir), fmt.Errorf("no %s in PATH", command)
		}
	}
	return "", "install the package " + pkg, fmt.Errorf("no %s in PATH", command)
}

// output runs a command until ctx ends and returns its output, both streams.
func output(ctx context.Context, attr *syscall.SysProcAttr, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = attr
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func iptablesCommand(ctx context.Context, _ *config.Config) Check {
	return firewallCommand(ctx, "iptables", Fail)
}

func ip6tablesCommand(ctx context.Context, c *config.Config) Check {
	return firewallCommand(ctx, "ip6tables", ipv6Severity(c))
}

// ipv6Severity is how bad it is if rules for IPv6 are impossible.
func ipv6Severity(c *config.Config) Status {
	wanted := len(c.Rules) == 0 || slices.ContainsFunc(c.Rules, func(r config.Rule) bool { return slices.Contains(r.Families, "ipv6") })
	if on, _ := ipv6On(); on && wanted {
		return Fail
	}
	return Warn
}

func firewallCommand(ctx context.Context, command string, severity Status) Check {
	path, remedy, err := lookPath(command, "iptables")
	if err != nil {
		return Check{Status: severity, Found: err.Error(), Remedy: remedy}
	}
	v, err := rules.FindVersion(ctx, path)
	if err != nil {
		return Check{Status: severity, Found: err.Error(), Remedy: "reinstall the package iptables"}
	}
	return ok("%s %s, backend %s (%s)", command, v.Number, inKernel(v.Backend), path)
}

// inKernel is the name that iptables --version gives a backend.
func inKernel(backend string) string {
	if backend == rules.BackendNFT {
		return "nf_tables"
	}
	return backend
}

func rulesIPv4(ctx context.Context, c *config.Config) Check {
	return tryRules(ctx, c, "ipv4", Fail)
}

func rulesIPv6(ctx context.Context, c *config.Config) Check {
	return tryRules(ctx, c, "ipv6", ipv6Severity(c))
}

// tryRules puts rules like ours into the configured table, each in a network namespace of the
// command's own, which ends with the command.
func tryRules(ctx context.Context, c *config.Config, family string, severity Status) Check {
	command := rules.ToolName(family)
	path, remedy, err := lookPath(command, "iptables")
	if err != nil {
		return Check{Status: severity, Found: "cannot tell: " + err.Error(), Remedy: remedy}
	}
	if !isRoot() {
		return cannotTell()
	}
	trial, err := rules.Trial(c, family, rules.Sensing{})
	if err != nil {
		return Check{Status: severity, Found: err.Error(), Remedy: "none known: please report this"}
	}
	for _, r := range trial {
		// -w, because all namespaces share the lock of the legacy backend.
		args := append([]string{"-w", "2", "-t", c.Firewall.Table, "-I", "OUTPUT"}, r.Args...)
		out, err := output(ctx, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, path, args...)
		switch {
		case err != nil && out == "":
			return Check{
				Status: severity, Found: "run " + command + " in a network namespace of its own: " + err.Error(),
				Remedy: "culprit needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and a kernel with network namespaces",
			}
		case err != nil:
			return Check{
				Status: severity, Found: command + " cannot match strings and log them in table " + c.Firewall.Table + ": " + firstLine(out),
				Remedy: ruleRemedy(command, c.Firewall.Table),
			}
		}
	}
	return ok("string match (xt_string) and NFLOG work in table %s", c.Firewall.Table)
}

func ruleRemedy(command, table string) string {
	module := map[string]string{"iptables": "iptable_", "ip6tables": "ip6table_"}[command] + table
	return "load the modules: modprobe -a xt_string xt_NFLOG nfnetlink_log " + module +
		" (in a container: on the host; on Fedora and RHEL, some are in the package kernel-modules-extra; after a kernel update: reboot). If only the table is missing, set firewall.table to another"
}

// firstLine returns the line of a command's output that says what is wrong.
func firstLine(out string) string {
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "Warning:") {
			return line
		}
	}
	return strings.TrimSpace(out)
}

// otherBackend checks whether the backend that iptables does not use holds rules too. Both sets
// are in force, and each tool shows only its own.
func otherBackend(ctx context.Context, _ *config.Config) Check {
	path, remedy, err := lookPath("iptables", "iptables")
	if err != nil {
		return warn("cannot tell: "+err.Error(), remedy)
	}
	v, err := rules.FindVersion(ctx, path)
	if err != nil {
		return warn("cannot tell: "+err.Error(), "reinstall the package iptables")
	}
	if !isRoot() {
		return cannotTell()
	}
	other, holds := rules.BackendLegacy, legacyRules
	if v.Backend == rules.BackendLegacy {
		other, holds = rules.BackendNFT, nftRules
	}
	backend, other := inKernel(v.Backend), inKernel(other)
	found, err := holds(ctx)
	switch {
	case err != nil:
		return warn(fmt.Sprintf("%s; cannot tell what %s holds: %v", backend, other, err), "look yourself: iptables-legacy-save, nft list ruleset")
	case len(found) == 0:
		return ok("%s is in use; %s holds no rules", backend, other)
	}
	return warn(fmt.Sprintf("iptables uses %s, but %s holds rules too: %s", backend, other, strings.Join(found, ", ")),
		"both are in force: what the other one drops is still dropped. Our rules show only in "+backend+"'s listing; let all programs use one backend: update-alternatives --config iptables")
}

// legacyRules names the tables of the legacy backend that hold rules, with their numbers. It
// asks only for existing tables, because asking for another one would create it.
func legacyRules(ctx context.Context) ([]string, error) {
	var found []string
	for _, family := range []string{"ipv4", "ipv6"} {
		command := rules.ToolName(family)
		tables, err := rules.LegacyTables(family)
		if err != nil {
			return nil, err
		}
		for _, table := range tables {
			save, err := exec.LookPath(command + "-legacy-save")
			if err != nil {
				return nil, fmt.Errorf("its table %s exists, but there is no %s-legacy-save", table, command)
			}
			out, err := output(ctx, nil, save, "-t", table)
			if err != nil {
				return nil, fmt.Errorf("run %s -t %s: %w: %s", save, table, err, firstLine(out))
			}
			if n := strings.Count("\n"+out, "\n-A "); n > 0 {
				found = append(found, fmt.Sprintf("%s %s (%d)", command, table, n))
			}
		}
	}
	return found, nil
}
