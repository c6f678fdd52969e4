package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Metrics says where Prometheus reads the metrics.
type Metrics struct {
	// Listen is "" (nowhere), "unix:" and the path of a socket, or a loopback address with a
	// port.
	Listen string `mapstructure:"listen"`
}

// maxSocketPath is the longest path of a socket, in bytes (man 7 unix).
const maxSocketPath = 107

// Address returns what to listen on, in the terms of package net: network "unix" or "tcp", or
// "" for nothing. It allows no address outside this machine, because the metrics say what is
// looked for and how well that works.
func (m Metrics) Address() (network, address string, err error) {
	if m.Listen == "" {
		return "", "", nil
	}
	if path, ok := strings.CutPrefix(m.Listen, "unix:"); ok {
		if err := socketPath(path, "unix:/run/culprit/metrics.sock"); err != nil {
			return "", "", err
		}
		return "unix", path, nil
	}
	a, err := netip.ParseAddrPort(m.Listen)
	switch {
	case err != nil || a.Addr().Zone() != "":
		return "", "", fmt.Errorf("%q is not an address to listen on; write unix:/run/culprit/metrics.sock, 127.0.0.1:9357 or \"[::1]:9357\"", m.Listen)
	case !a.Addr().IsLoopback():
		return "", "", fmt.Errorf("%q can be reached from other machines, and would show who is hunted; allowed: a unix: socket, 127.0.0.1, [::1]; put a proxy that asks for a password in front of it", m.Listen)
	case a.Port() == 0:
		return "", "", fmt.Errorf("%q has no port; write 127.0.0.1:9357", m.Listen)
	}
	return "tcp", a.String(), nil
}

// socketPath refuses what is no path of a socket; example is one.
func socketPath(path, example string) error {
	switch {
	case !filepath.IsAbs(path), filepath.Clean(path) != path, path == "/":
		return fmt.Errorf("%q is not the absolute path of a socket; write %s", path, example)
	case len(path) > maxSocketPath:
		return fmt.Errorf("%q is longer than the kernel allows for a socket (%d bytes)", path, maxSocketPath)
	}
	return nil
}

func (m Metrics) validate(ps *problems) {
	if _, _, err := m.Address(); err != nil {
		ps.add("metrics.listen", "%v", err)
	}
}

// warnings says who else besides root can read the metrics.
func (m Metrics) warnings() []string {
	if network, _, err := m.Address(); err != nil || network != "tcp" {
		return nil
	}
	return []string{fmt.Sprintf("metrics.listen %s: every user of this machine, also the hunted one, can read there that a hunt is on, and for what; only root can read a unix: socket", m.Listen)}
}
