package rules

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// lockWait is how many seconds a command waits for the lock of iptables-legacy. Without it
// go-iptables would wait for ever.
const lockWait = 5

// A tool is one installed iptables or ip6tables command.
type tool struct {
	family  string
	backend string
	path    string
	ipt     *iptables.IPTables
}

// A finder finds the path of a command, like [exec.LookPath].
type finder func(name string) (path string, err error)

// LookPath is [exec.LookPath] that also looks in the usual directories of iptables: "su"
// without "-" leaves the system directories out of PATH.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", err
}

// ToolName names the command for a family.
func ToolName(family string) string {
	if family == "ipv6" {
		return "ip6tables"
	}
	return "iptables"
}

// openTool finds the command of the given name and asks for its backend. It does not read the
// firewall.
func openTool(family, name string, find finder) (tool, error) {
	path, err := find(name)
	if err != nil {
		return tool{}, fmt.Errorf("find %s: %w: install the package iptables (apt install iptables)", name, err)
	}
	proto := iptables.ProtocolIPv4
	if family == "ipv6" {
		proto = iptables.ProtocolIPv6
	}
	ipt, err := iptables.New(iptables.IPFamily(proto), iptables.Path(path), iptables.Timeout(lockWait))
	if err != nil {
		return tool{}, fmt.Errorf("ask %s for its version: %w: reinstall the package iptables", path, err)
	}
	// The library asked too, but does not export the backend.
	version, err := FindVersion(context.Background(), path)
	if err != nil {
		return tool{}, fmt.Errorf("%w: reinstall the package iptables", err)
	}
	return tool{family: family, backend: version.Backend, path: path, ipt: ipt}, nil
}

// hasIPv6 reports whether the kernel supports IPv6. If it was booted with ipv6.disable=1 or
// built without IPv6, this file does not exist.
func hasIPv6() bool {
	_, err := os.Stat("/proc/thread-self/net/if_inet6")
	return !errors.Is(err, os.ErrNotExist)
}

// present reports whether a table of iptables-legacy exists, without creating it.
func (t tool) present(table string) (bool, error) {
	tables, err := LegacyTables(t.family)
	if err != nil {
		return false, explain(t.family, table, fmt.Errorf("list the tables of %s: %w", ToolName(t.family), err))
	}
	return slices.Contains(tables, table), nil
}

// LegacyTables lists the tables of iptables-legacy that exist for a family in the network
// namespace of the calling thread. It creates none. Listing a table with iptables would load
// its module and create the table, for good (net/ipv4/netfilter/iptable_raw.c and its like).
func LegacyTables(family string) ([]string, error) {
	// thread-self, because /proc/net shows the namespace of the process's first thread.
	file := "/proc/thread-self/net/ip_tables_names"
	if family == "ipv6" {
		file = "/proc/thread-self/net/ip6_tables_names"
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the module ip_tables is not loaded
	}
	return strings.Fields(string(text)), err
}
