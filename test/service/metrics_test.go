package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"culprit/internal/event"
	"culprit/test/harness"
)

// metered is a configuration with numbers on a socket of the host, and its path.
func metered(h *harness.Host, text string) (config, evidence, socket string) {
	h.T.Helper()
	socket = filepath.Join(h.Dir, "metrics.sock")
	config, evidence = h.Configure(text + fmt.Sprintf("\nmetrics: {listen: \"unix:%s\"}\n", socket))
	return config, evidence, socket
}

// ask reads a page from a socket.
func ask(socket, page string) (status int, body string, err error) {
	client := http.Client{Timeout: harness.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	r, err := client.Get("http://culprit" + page)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return r.StatusCode, string(text), err
}

// parseReadings are the values of metrics by name; those with labels are added up, also by
// name{value}. Of a histogram it is the count.
func parseReadings(t *testing.T, text string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("what Prometheus would read is wrong: %v\n%s", err, text)
	}
	all := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all[name] += v
			for _, l := range m.GetLabel() {
				all[name+"{"+l.GetValue()+"}"] += v
			}
		}
	}
	return all
}

func readings(d *harness.Daemon, socket string) map[string]float64 {
	d.T.Helper()
	status, text, err := ask(socket, "/metrics")
	if err != nil || status != 200 {
		d.T.Fatalf("read the metrics: status %d, %v\n%s", status, err, text)
	}
	return parseReadings(d.T.(*testing.T), text)
}

// A hunt, and its numbers are those of the evidence.
func TestMetrics(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		config, evidence, socket := metered(h, harness.Gated)
		d := h.HuntWith(config, evidence)
		zero := readings(d, socket)
		for _, name := range []string{"culprit_hits_total{badzone}", "culprit_packets_lost_total", "culprit_captures_running", "culprit_firewall_repairs_total"} {
			if v, there := zero[name]; !there || v != 0 {
				t.Errorf("at the beginning %s is %v (%v)", name, v, there)
			}
		}

		a, b := harness.NewUID(), harness.NewUID()
		s, other := h.Sender(a), h.Sender(b)
		s.Ask("a.badzone.test")
		other.Ask("b.badzone.test")
		harness.Traced(t, s.Process, other.Process)
		s.AskTimes("again.badzone.test", 3) // each with an id of its own
		var ended []*harness.Process
		for i := range 5 {
			p := h.StartAs(a, harness.Programs.OffenderC, "-n", fmt.Sprintf("short%d.badzone.test", i))
			p.Wait()
			ended = append(ended, p)
		}
		for i, p := range ended {
			d.Hit(fmt.Sprintf("short%d.badzone.test", i))
			d.Trace(p.PID, "has ended", func(t event.Trace) bool { return t.Culprit.State == event.StateEnded })
		}

		// Not every program is: strace may be on its process already.
		harness.Eventually(t, "the gate holds a program", func() error {
			if readings(d, socket)["culprit_gate_hold_duration_seconds"] > 0 {
				return nil
			}
			h.StartAs(a, harness.Programs.OffenderC, "-n", "held.goodzone.test").Wait()
			return errors.New("it has not")
		})

		harness.Eventually(t, "the numbers are those of the evidence", func() error {
			// First what can only grow, then what it must have reached.
			hits, traces, captures := d.Hits(), d.Traces(), d.Captures()
			got := readings(d, socket)
			proven, packets := 0, 0
			for _, hit := range hits {
				packets += hit.Culprit.Count - 1
				if hit.Culprit.Proof != nil {
					proven++
				}
			}
			var size int64
			for _, tr := range traces {
				size += tr.File.Size
			}
			for name, want := range map[string]int{
				"culprit_hits_total{badzone}":           len(hits),
				"culprit_hits_total":                    len(hits),
				"culprit_hit_repeats_total":             packets,
				"culprit_attach_duration_seconds":       len(traces),
				"culprit_captures_started_total":        len(captures),
				"culprit_captures_running":              2,
				"culprit_straces_running":               len(d.Straces()),
				"culprit_proofs_total":                  proven,
				"culprit_sensor_info{nflog}":            1,
				"culprit_sensor_stops_total{traced}":    2,
				"culprit_sensor_stop_duration_seconds":  2,
				"culprit_sensor_failures_total":         0,
				"culprit_sensor_lost_total":             0,
				"culprit_sensor_unjoined_total":         0,
				"culprit_gate_failures_total":           0,
				"culprit_packets_lost_total":            0,
				"culprit_packets_waiting":               0,
				"culprit_catalogue_dropped_total":       0,
				"culprit_config_last_reload_successful": 1,
			} {
				if got[name] != float64(want) {
					return fmt.Errorf("%s is %v, want %d", name, got[name], want)
				}
			}
			if n := got["culprit_sensor_unstopped_total{traced}"]; n < 3 {
				return fmt.Errorf("%v senders were not stopped as they were traced", n)
			}
			if n := got["culprit_hit_attach_duration_seconds"]; n < 2 {
				return fmt.Errorf("%v straces got onto processes that were there at the hit, want the senders'", n)
			}
			if n := got["culprit_trace_written_bytes_total"]; n < float64(size) || size == 0 {
				return fmt.Errorf("%v bytes were written, the traces have %d", n, size)
			}
			if n := got["culprit_evidence_bytes"]; n <= 0 || got["culprit_evidence_limit_bytes"] != 5<<30 {
				return fmt.Errorf("%v bytes of evidence, at most %v", n, got["culprit_evidence_limit_bytes"])
			}
			for _, loop := range []string{"packets", "captures"} {
				if at := got["culprit_loop_last_turn_timestamp_seconds{"+loop+"}"]; at < float64(time.Now().Add(-harness.Patience).Unix()) {
					return fmt.Errorf("the loop of %s turned at %v", loop, at)
				}
			}
			return nil
		})
		if status, body, err := ask(socket, "/healthz"); status != 200 || body != "ok\n" {
			t.Errorf("healthz: %d %q %v", status, body, err)
		}

		h.Must(t, "iptables", "-t", "raw", "-F", "OUTPUT")
		harness.Eventually(t, "the repair is counted", func() error {
			if got := readings(d, socket); got["culprit_firewall_repairs_total"] < 1 || got["culprit_firewall_gap_seconds_total"] <= 0 {
				return fmt.Errorf("%v repairs, %v seconds", got["culprit_firewall_repairs_total"], got["culprit_firewall_gap_seconds_total"])
			}
			return nil
		})

		reload(t, d, harness.Gated+"rules: [{name: later, string: LATER}]\nmetrics: {listen: \"unix:"+socket+"\"}", "reloaded")
		if v, there := readings(d, socket)["culprit_hits_total{later}"]; !there || v != 0 {
			t.Errorf("the rule of the new configuration has %v hits (%v)", v, there)
		}
		reload(t, d, harness.Gated+harness.Badzone+"metrics: {listen: \"\"}", refused)
		if !strings.Contains(d.Output.String(), "cannot change metrics") {
			t.Errorf("another listener was not refused")
		}
		harness.Eventually(t, "the refusal is told", func() error {
			if got := readings(d, socket)["culprit_config_last_reload_successful"]; got != 0 {
				return fmt.Errorf("it is %v", got)
			}
			return nil
		})

		_, text, err := ask(socket, "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if said := promtool(t, text, "check", "metrics"); said != "" {
			t.Errorf("promtool says of the metrics:\n%s", said)
		}
		for _, uid := range []uint32{a, b} {
			if want := fmt.Sprintf("culprit_user_hits_total{container=\"\",uid=\"%d\"}", uid); !strings.Contains(text, want) {
				t.Errorf("the metrics do not have %s:\n%s", want, text)
			}
		}
		// Nothing else that others choose is in a label.
		for _, secret := range []string{"badzone.test", "offender", "python"} {
			if strings.Contains(text, secret) {
				t.Errorf("the metrics say %q:\n%s", secret, text)
			}
		}
		d.Stop()
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is still there")
		}
	})
}
