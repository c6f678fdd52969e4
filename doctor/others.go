package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"culprit/internal/config"
)

// A manager is another program that manages firewall rules.
type manager struct {
	name string
	// It is present if a process has this name (as in /proc/PID/comm), a systemd unit of this
	// name is enabled, or the file has this line.
	process, unit, file, line string
	// does says what it does to foreign rules; empty if it leaves them alone.
	does string
}

var managers = []manager{
	{name: "ufw", file: "etc/ufw/ufw.conf", line: "ENABLED=yes", does: "ufw-init flush-all empties whole tables"},
	{name: "firewalld", process: "firewalld", does: "with the iptables backend a reload empties all tables"},
	{name: "nftables.service", unit: "nftables.service", does: "its start, restart and stop delete every rule (flush ruleset)"},
	{name: "netfilter-persistent", unit: "netfilter-persistent.service", does: "its restart replaces whole tables, and saving may keep our rules for the next boot"},
	{name: "iptables.service", unit: "iptables.service", does: "its restart replaces whole tables"},
	{name: "shorewall", unit: "shorewall.service", does: "its restart replaces whole tables"},
	{name: "csf", file: "etc/csf/csf.conf", line: `TESTING = "0"`, does: "its restart empties whole tables"},
	{name: "docker", process: "dockerd"},
	{name: "fail2ban", process: "fail2ban-server"},
	{name: "libvirt", process: "libvirtd"},
	{name: "kube-proxy", process: "kube-proxy"},
}

func otherFirewalls(context.Context, *config.Config) Check {
	flushing, harmless := findManagers("/")
	alone := strings.Join(harmless, ", ")
	if len(flushing) > 0 {
		if alone != "" {
			alone = "; no harm from " + alone
		}
		return warn(strings.Join(flushing, "; ")+alone,
			"nothing now: culprit puts its rules back, but misses the packets sent meanwhile. Restart culprit after you restart one of these by hand")
	}
	if alone != "" {
		return ok("%s: no harm to our chain", alone)
	}
	return ok("none")
}

// findManagers looks for [managers] in the file system at root. That is enough; asking systemd
// or D-Bus could hang.
func findManagers(root string) (flushing, harmless []string) {
	running := processNames(root)
	for _, m := range managers {
		if !m.active(root, running) {
			continue
		}
		if m.does == "" {
			harmless = append(harmless, m.name)
		} else {
			flushing = append(flushing, m.name+": "+m.does)
		}
	}
	return flushing, harmless
}

func (m manager) active(root string, running map[string]bool) bool {
	if m.process != "" && running[m.process] {
		return true
	}
	if m.unit != "" {
		// An enabled unit is linked from the target that wants it, see systemctl(1).
		links, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants", m.unit))
		if err == nil && len(links) > 0 {
			return true
		}
	}
	if m.file != "" {
		text, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(text)) {
			if strings.TrimSpace(line) == m.line {
				return true
			}
		}
	}
	return false
}

// processNames returns the names of all processes.
func processNames(root string) map[string]bool {
	names := make(map[string]bool)
	files, err := filepath.Glob(filepath.Join(root, "proc/[0-9]*/comm"))
	if err != nil {
		return names
	}
	for _, file := range files {
		if name, err := os.ReadFile(file); err == nil {
			names[strings.TrimSpace(string(name))] = true
		}
	}
	return names
}
