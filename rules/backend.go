package rules

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// The two backends of iptables take the same syntax but keep separate rules.
const (
	BackendNFT    = "nft"
	BackendLegacy = "legacy"
)

// A Version is what an iptables or ip6tables command reports about itself.
type Version struct {
	Line    string // as printed, such as "iptables v1.8.9 (nf_tables)"
	Number  string // such as "1.8.9"
	Backend string // nft or legacy
}

// FindVersion runs the command at path with --version. It waits five seconds at most.
func FindVersion(ctx context.Context, path string) (Version, error) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err == nil {
		var v Version
		if v, err = parseVersion(string(out)); err == nil {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("ask %s for its version: %w", path, err)
}

var versionLine = regexp.MustCompile(`^ip6?tables v(\d+\.\d+(?:\.\d+)?)\S*(?: \((nf_tables|legacy)\))?`)

// parseVersion reads the output of iptables --version. Before 1.8 there was only one backend,
// and the output does not name it.
func parseVersion(out string) (Version, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return Version{}, fmt.Errorf("no version in %q", out)
	}
	v := Version{Line: strings.TrimSpace(out), Number: m[1], Backend: BackendLegacy}
	if m[2] == "nf_tables" {
		v.Backend = BackendNFT
	}
	return v, nil
}
