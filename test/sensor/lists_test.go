package sensor

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// Who asks for a listed name is named by the kernel, stands still at its first packet, and is traced from there. Nobody is who asks
// for an exception, for what is not listed, or for what another rule lists for another port.
func TestListed(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		dir := filepath.Join(h.Dir, "lists")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		h.Write("lists/feed.txt", "evil.test\n")
		h.Write("lists/allow.txt", "good.evil.test\n")
		h.Write("lists/other.txt", "other.test\n")
		socket := filepath.Join(h.Dir, "metrics.sock")
		d := h.Hunt(fmt.Sprintf(`
sensor: nflog
metrics: {listen: "unix:%[2]s"}
rules:
  - {name: feed, list: %[1]s/feed.txt, except: %[1]s/allow.txt}
  - {name: other, list: %[1]s/other.txt, ports: 5300}
`, dir, socket) + harness.Gated)
		number := 0
		run := func(name string, args ...string) *harness.Process {
			t.Helper()
			p := h.StartAs(harness.NewUID(), harness.Programs.OffenderC, append([]string{"-n", name}, args...)...)
			if got := p.Wait(); got != 0 {
				t.Fatalf("the program ended with %d: %s", got, p.Output)
			}
			return p
		}
		round := func(listed string) {
			t.Helper()
			number++
			for _, innocent := range [][]string{{"good.evil.test"}, {"www.good.evil.test"}, {"evil.test.example"}, {"other.test"}, {"evil.test", "-p", "5300"}, {"harmless.test", "-t"}} {
				run(innocent[0], innocent[1:]...)
			}
			name := fmt.Sprintf("first-%d.%s", number, listed)
			p := run(name)
			hit := d.Hit(name)
			if hit.Culprit.Sent == nil || hit.Process == nil || hit.Process.PID != p.PID {
				t.Fatalf("the origin of the hit is %+v, process %v, want %d by the kernel", hit.Culprit.Origin, hit.Process, p.PID)
			}
			tr := d.Trace(p.PID, "has ended", harness.Ended)
			if !tr.Culprit.FromPacket || tr.Culprit.FoundBy != event.FoundPacket {
				t.Errorf("the trace of %s is %+v", name, tr.Culprit)
			}
			if all := d.Hits(); len(all) != number {
				t.Errorf("%d hits, want %d: %+v", len(all), number, all)
			}
		}
		round("evil.test")
		round("evil.test")
		if text := read(t, socket); !strings.Contains(text, `culprit_sensor_stops_total{outcome="traced"} 2`) ||
			!strings.Contains(text, `culprit_sensor_stops_total{outcome="let_go"} 0`) || !strings.Contains(text, `culprit_sensor_stops_total{outcome="expired"} 0`) ||
			!strings.Contains(text, `culprit_list_filter_packets_total{rule="feed",verdict="undecided"} 4`) {
			t.Errorf("others than the two who asked for a listed name stood still:\n%s", text)
		}
		d.Stop()
	})
}

// Where the kernel does not take the filter, all is found nevertheless, and nobody stands still.
func TestListedWithoutFilter(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "nft")
	if _, err := h.Run("sysctl", "-qw", "net.core.optmem_max=2048"); err != nil {
		t.Skip("the kernel has one net.core.optmem_max for all:", err)
	}
	h.Write("feed.txt", "evil.test\n")
	socket := filepath.Join(h.Dir, "metrics.sock")
	d := h.Hunt(fmt.Sprintf("sensor: nflog\nmetrics: {listen: \"unix:%s\"}\nrules: [{name: feed, list: %s}]\n", socket, filepath.Join(h.Dir, "feed.txt")) + harness.Gated)
	d.AwaitLog("the kernel does not look lists up")
	for _, name := range []string{"harmless.test", "first.evil.test"} {
		if p := h.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", name); p.Wait() != 0 {
			t.Fatal(p.Output)
		}
	}
	if hit := d.Hit("first.evil.test"); hit.Culprit.Sent != nil {
		t.Errorf("the kernel named who sent the hit: %+v", hit.Culprit.Sent)
	}
	if text := read(t, socket); !strings.Contains(text, `culprit_sensor_stops_total{outcome="let_go"} 0`) || !strings.Contains(text, `culprit_sensor_stops_total{outcome="traced"} 0`) {
		t.Errorf("somebody stood still:\n%s", text)
	}
	d.Stop()
}

// read reads the metrics of a daemon.
func read(t *testing.T, socket string) string {
	t.Helper()
	client := http.Client{Timeout: harness.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	r, err := client.Get("http://culprit/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
