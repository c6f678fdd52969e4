package hunt

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// What a local resolver sends on is joined to the hit of the program that asked it,
// and is not captured.
func TestResolver(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	resolver, uid := harness.NewUID(), harness.NewUID()
	h.Do(func() { os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0) })
	dnsmasq := h.StartAs(resolver, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=",
		"--no-resolv", "--no-hosts", "--cache-size=0", "--bind-interfaces", "--listen-address=127.0.0.53", "--server=127.0.0.1")
	harness.Eventually(t, "the second dnsmasq answers", func() error {
		if dnsmasq.Ended() {
			t.Fatalf("dnsmasq ended: %s", dnsmasq.Output)
		}
		_, err := h.Run(harness.Programs.OffenderC, "-w", "-s", "127.0.0.53", "-n", "ready.test")
		return err
	})
	d := h.Hunt(harness.Gated + fmt.Sprintf("guard: {resolvers: [\"%d\"]}\n", resolver))
	h.StartAs(uid, harness.Programs.OffenderC, "-w", "-s", "127.0.0.53", "-n", "asked.badzone.test").Wait()
	var client, forwarded event.Hit
	harness.Eventually(t, "both hits are there", func() error {
		for _, hit := range d.Hits() {
			switch hit.User.ID {
			case fmt.Sprint(uid):
				client = hit
			case fmt.Sprint(resolver):
				forwarded = hit
			}
		}
		if client.User == nil || forwarded.User == nil {
			return fmt.Errorf("there are %d hits", len(d.Hits()))
		}
		return nil
	})
	if from := forwarded.Culprit.ForwardedFrom; from == nil || from.ID != client.Event.ID || forwarded.Culprit.Capture != nil {
		t.Errorf("the resolver's hit is %+v, want it to be forwarded from %s", forwarded.Culprit, client.Event.ID)
	}
	if client.Culprit.Capture == nil || client.Culprit.ForwardedFrom != nil {
		t.Errorf("the program's hit is %+v", client.Culprit)
	}
	out := h.Culprit("show", client.Event.ID, "--evidence", d.Evidence).Must(t)
	if !strings.Contains(out, "forwarded by") || !strings.Contains(out, forwarded.Event.ID) {
		t.Errorf("show of the program's hit:\n%s", out)
	}
	out = h.Culprit("show", forwarded.Event.ID, "--evidence", d.Evidence).Must(t)
	if !strings.Contains(out, "for the program of hit "+client.Event.ID) {
		t.Errorf("show of the resolver's hit:\n%s", out)
	}
	if report := h.Culprit("report", client.Event.ID, "--evidence", d.Evidence, "--text").Must(t); !strings.Contains(strings.Join(strings.Fields(report), " "), fmt.Sprintf("forwarded by %d to 127.0.0.1:53", resolver)) {
		t.Errorf("the report does not say who forwarded the question:\n%s", report)
	}
	// Without a packet of the program the hit says so.
	h.StartAs(resolver, harness.Programs.OffenderC, "-n", "alone.badzone.test").Wait()
	if alone := d.Hit("alone.badzone.test"); alone.Culprit.ForwardedFrom != nil || !strings.Contains(words.NoCapture(alone.Culprit.NoCapture), "UNIX socket") {
		t.Errorf("a resolver's hit that nobody asked for: %+v", alone.Culprit)
	}
	if cs := d.Captures(); len(cs) != 1 {
		t.Errorf("%d captures, want that of the program", len(cs))
	}
	d.Stop()
	dnsmasq.Signal(syscall.SIGTERM)
}
