package bench

import (
	"cmp"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/rules"
)

// quiet is a log for what would only disturb the figures.
var quiet = slog.New(slog.DiscardHandler)

// offenderUID is whose packets the kernel says they are, and newcomerUID the first of many users. They need no accounts. Namespaces have
// the machine's UIDs, and a capture is of all processes of one: so no two runs at once may share any.
var (
	offenderUID = 300_000_000 + os.Getpid()%10_000*100_000
	newcomerUID = offenderUID + 1000
)

// badzone is the rule of config.example.yaml.
const badzone = "rules: [{name: badzone, string: BADZONE}]\n"

func parse(b *testing.B, text string) *config.Config {
	b.Helper()
	c, err := config.Parse("bench.yaml", []byte(text))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// newNet makes a namespace in which UDP to 127.0.0.1, port 53 and 54, is taken
// and never read: nothing answers, and nothing is refused.
func newNet(b *testing.B) *testkit.Net {
	b.Helper()
	n := testkit.NewNet(b)
	for _, port := range []int{53, 54} {
		var sink *net.UDPConn
		var err error
		n.Do(func() { sink, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}) })
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { sink.Close() })
	}
	return n
}

// install puts the rules of the configuration into the namespace's firewall.
func install(b *testing.B, n *testkit.Net, c *config.Config) {
	b.Helper()
	var err error
	n.Do(func() {
		var f *rules.Firewall
		if f, err = rules.New(c, rules.Sensing{}, quiet); err == nil {
			err = f.Install()
		}
	})
	if err != nil {
		b.Fatal(err)
	}
}

// quantile returns the q-th quantile, of 0 to 1, of the samples, which it sorts.
func quantile[T cmp.Ordered](samples []T, q float64) T {
	slices.Sort(samples)
	return samples[int(q*float64(len(samples)-1)+0.5)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// reportMS reports p50 and p99 of the samples in milliseconds.
func reportMS(b *testing.B, what string, samples []time.Duration) {
	b.ReportMetric(ms(quantile(samples, 0.50)), what+"p50-ms")
	b.ReportMetric(ms(quantile(samples, 0.99)), what+"p99-ms")
}

// noTimePerRun drops the time of a whole run from the output: it says nothing.
func noTimePerRun(b *testing.B) { b.ReportMetric(0, "ns/op") }

// await fails the benchmark unless what it waits for comes about within 20 s.
func await(b *testing.B, what string, every time.Duration, done func() bool) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(every) {
		if time.Now().After(deadline) {
			b.Fatalf("waited 20 s in vain for: %s", what)
		}
	}
}

// write makes a file in a directory of the benchmark's own.
func write(b *testing.B, name, text string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// field returns what follows "key:" in a file of /proc, "" if the file is gone.
func field(path, key string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
