package rules

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"culprit/internal/config"
	"culprit/internal/testkit"
)

// An env is a network namespace with one flavour of iptables.
type env struct {
	*testkit.Net
	backend string
	logged  *bytes.Buffer
	log     *slog.Logger
}

// eachBackend runs f in parallel, in a namespace for each flavour of iptables.
func eachBackend(t *testing.T, f func(t *testing.T, e *env)) {
	t.Parallel()
	for _, b := range testkit.Backends {
		t.Run(b, func(t *testing.T) {
			t.Parallel()
			f(t, newEnv(t, b))
		})
	}
}

// newEnv makes a namespace. With backend "" it leaves the commands as they are.
func newEnv(t *testing.T, backend string) *env {
	t.Helper()
	e := &env{Net: testkit.NewNet(t), backend: backend, logged: new(bytes.Buffer)}
	e.log = slog.New(slog.NewTextHandler(e.logged, nil))
	if backend != "" {
		e.UseBackend(t, backend)
	}
	return e
}

// touch creates the tables of iptables-legacy, which nothing can undo.
func (e *env) touch(t *testing.T) {
	t.Helper()
	if e.backend != BackendLegacy {
		return
	}
	for _, table := range tables {
		e.Must(t, "iptables", "-t", table, "-S")
		e.Must(t, "ip6tables", "-t", table, "-S")
	}
}

var counters = regexp.MustCompile(`\[\d+:\d+\]|counter packets \d+ bytes \d+`)

// saved returns the whole firewall as text, without comment lines and counters. For the nft
// flavour it adds what nft prints.
func (e *env) saved(t *testing.T) string {
	t.Helper()
	text := e.Must(t, "iptables-save") + e.Must(t, "ip6tables-save")
	if e.backend == BackendNFT {
		text += e.Must(t, "nft", "list", "ruleset")
	}
	var b strings.Builder
	for line := range strings.Lines(counters.ReplaceAllString(text, "[]")) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// same fails the test if the firewall differs from before.
func (e *env) same(t *testing.T, before, when string) {
	t.Helper()
	if d := cmp.Diff(before, e.saved(t)); d != "" {
		t.Errorf("%s the firewall differs:\n%s", when, d)
	}
}

// do calls f in the namespace.
func (e *env) do(f func() error) (err error) {
	e.Do(func() { err = f() })
	return err
}

func (e *env) ok(t *testing.T, f func() error) {
	t.Helper()
	if err := e.do(f); err != nil {
		t.Fatal(err)
	}
}

// open makes a Firewall that finds its commands with find, or as usual if find is nil.
func (e *env) open(t *testing.T, c *config.Config, find finder) *Firewall {
	t.Helper()
	if find == nil {
		find = LookPath
	}
	var f *Firewall
	e.ok(t, func() (err error) { f, err = open(c, Sensing{}, e.log, find); return err })
	return f
}

func (e *env) status(t *testing.T, f *Firewall) Status {
	t.Helper()
	var s Status
	e.ok(t, func() (err error) { s, err = f.Status(); return err })
	return s
}

// installs checks that Install works and leaves everything right.
func (e *env) installs(t *testing.T, f *Firewall) {
	t.Helper()
	e.ok(t, f.Install)
	s := e.status(t, f)
	if !s.Healthy() {
		t.Errorf("after Install: %+v\n%s", s, e.saved(t))
	}
	for _, fs := range s.Families {
		if want := len(ofFamily(f.rules, fs.Family)); len(fs.Rules) != want || want > 0 && (fs.Jumps != 1 || !fs.First) {
			t.Errorf("after Install: want %d rules and one jump: %+v", want, fs)
		}
	}
}

// script makes a shell script and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	// A child forked while the file is open for writing would keep it open, and the kernel
	// would refuse to run it ("text file busy").
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// instead returns a finder that finds path for name, and everything else as usual.
func instead(name, path string) finder {
	return func(n string) (string, error) {
		if n != name {
			return LookPath(n)
		}
		if path == "" {
			return "", fmt.Errorf("%q: not in $PATH", n)
		}
		return path, nil
	}
}

// restore feeds commands, one a line, to iptables-restore and ip6tables-restore.
func (e *env) restore(t *testing.T, table, commands string) {
	t.Helper()
	text := "*" + table + "\n" + commands + "\nCOMMIT\n"
	for _, tool := range []string{"iptables", "ip6tables"} {
		e.Must(t, "sh", "-c", `printf %s "$1" | `+tool+"-restore --noflush", "sh", text)
	}
}

// foreign sets up a firewall of somebody else's, in all tables and both families.
func (e *env) foreign(t *testing.T) {
	t.Helper()
	for _, table := range tables {
		e.restore(t, table, `:THEIRS - [0:0]
-A THEIRS -p udp --dport 9 -j DROP
-A OUTPUT -p udp --dport 9 -j THEIRS
-A OUTPUT -p udp --dport 53 -m string --string x --algo bm -j NFLOG --nflog-group 9
-A OUTPUT -m comment --comment culprit -j THEIRS`)
	}
	e.restore(t, "filter", ":FORWARD DROP [0:0]")
}

const twoRules = `
rules:
  - {name: badzone, string: BADZONE}
  - {name: evil, domain: evil.example, protocols: [udp], ports: [5353], to: [127.0.0.0/8, "::1"]}
`

func inTable(table string) string { return twoRules + "firewall: {table: " + table + "}\n" }
