package selftest

import (
	"bufio"
	"context"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/strace"
	"culprit/rules"
)

// Versions are what a bug report should begin with.
type Versions struct {
	Culprit      string `json:"culprit"`
	Kernel       string `json:"kernel"` // including the architecture
	Iptables     string `json:"iptables"`
	Strace       string `json:"strace"`
	Go           string `json:"go"`
	Distribution string `json:"distribution"`
}

// String returns all versions in one line.
func (v Versions) String() string {
	return strings.Join([]string{"culprit " + v.Culprit, v.Kernel, v.Iptables, v.Strace, v.Go, v.Distribution}, ", ")
}

func findVersions(ctx context.Context, culprit string) Versions {
	v := Versions{Culprit: culprit, Kernel: "unknown kernel", Iptables: iptablesVersion(ctx).Line, Strace: "no strace", Go: runtime.Version(), Distribution: "unknown distribution"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		v.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	if v.Iptables == "" {
		v.Iptables = "no iptables"
	}
	if p, err := strace.Find(ctx); err == nil {
		v.Strace = "strace " + p.Version()
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		if name := prettyName(string(text)); name != "" {
			v.Distribution = name
		}
	}
	return v
}

// iptablesVersion returns the version of the command with the plain name, empty if it has none.
func iptablesVersion(ctx context.Context) rules.Version {
	path, err := rules.LookPath("iptables")
	if err != nil {
		return rules.Version{}
	}
	v, _ := rules.FindVersion(ctx, path)
	return v
}

// prettyName reads os-release(5).
func prettyName(text string) string {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); found {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}
