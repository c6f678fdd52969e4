package harness

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"culprit/internal/testkit"
)

var lastUID atomic.Uint32

// NewUID is a user of a test's own. UIDs are the machine's, namespaces or not, and a capture is
// of all processes of one: so no two tests, and no two runs at once, may share any.
func NewUID() uint32 {
	return 64_000_000 + uint32(os.Getpid()%20_000)*10_000 + lastUID.Add(1)
}

// A Host is the machine of one test: namespaces, a resolver for everything below
// test., and a directory that everybody can read.
type Host struct {
	*testkit.Net
	T       testing.TB
	Backend string
	Dir     string
	Started int // configurations that were written
}

// EachBackend runs f, in parallel, on a host with each flavour of iptables.
func EachBackend(t *testing.T, f func(t *testing.T, h *Host)) {
	t.Parallel()
	for _, b := range testkit.Backends {
		t.Run(b, func(t *testing.T) {
			t.Parallel()
			f(t, NewHost(t, b))
		})
	}
}

// NewHost makes a host; the backend "" leaves iptables as the machine has it.
func NewHost(t testing.TB, backend string) *Host {
	t.Helper()
	h := &Host{Net: testkit.NewNet(t), T: t, Backend: backend}
	if backend != "" {
		h.UseBackend(t, backend)
	}
	// To look at a table of iptables-legacy creates it, for good.
	for _, table := range []string{"raw", "mangle", "filter"} {
		h.Must(t, "iptables", "-t", table, "-S")
		h.Must(t, "ip6tables", "-t", table, "-S")
	}
	var err error
	if h.Dir, err = os.MkdirTemp(Programs.Dir, "host-"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.Resolver("127.0.0.1", "")
	dnsmasq := h.StartAs(0, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root",
		"--no-resolv", "--no-hosts", "--cache-size=0", "--bind-interfaces", "--listen-address=127.0.0.1,::1",
		"--address=/test/192.0.2.1", "--address=/test/2001:db8::1")
	for _, args := range [][]string{{}, {"-t"}, {"-s", "::1"}, {"-s", "::1", "-t"}} {
		Eventually(t, "dnsmasq answers", func() error {
			if dnsmasq.Ended() {
				t.Fatalf("dnsmasq ended: %s", dnsmasq.Output)
			}
			_, err := h.Run(Programs.OffenderC, append([]string{"-w", "-n", "ready.test"}, args...)...)
			return err
		})
	}
	return h
}

// Resolver sets who resolves names, and how.
func (h *Host) Resolver(server, options string) {
	h.T.Helper()
	h.Bind(h.T, "/etc/resolv.conf", "nameserver "+server+"\nsearch .\n"+options+"\n")
}

var counters = regexp.MustCompile(`\[\d+:\d+\]|counter packets \d+ bytes \d+`)

// Firewall is all of the firewall as text, without comments and counters.
func (h *Host) Firewall() string {
	h.T.Helper()
	all := h.Must(h.T, "iptables-save") + h.Must(h.T, "ip6tables-save")
	var b strings.Builder
	for line := range strings.Lines(counters.ReplaceAllString(all, "[]")) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Unchanged fails the test if the firewall is not as it was.
func (h *Host) Unchanged(before, when string) {
	h.T.Helper()
	if after := h.Firewall(); after != before {
		h.T.Errorf("%s the firewall should be as before.\nbefore:\n%s\nnow:\n%s", when, before, after)
	}
}

// Write makes a file in the host's directory that everybody can read and run.
func (h *Host) Write(name, text string) string {
	h.T.Helper()
	path := filepath.Join(h.Dir, name)
	// A child that is forked meanwhile would hold the file open for writing, and
	// the kernel would refuse to run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		h.T.Fatal(err)
	}
	return path
}
