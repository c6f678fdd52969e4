package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"culprit/internal/event"
)

// metered is a configuration with numbers on a socket of the host, and its path.
func (h *host) metered(text string) (config, evidence, socket string) {
	h.t.Helper()
	socket = filepath.Join(h.dir, "metrics.sock")
	config, evidence = h.configure(text + fmt.Sprintf("\nmetrics: {listen: \"unix:%s\"}\n", socket))
	return config, evidence, socket
}

// ask reads a page from a socket.
func ask(socket, page string) (status int, body string, err error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
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

// readings are the values of metrics by name; those with labels are added up, also by
// name{value}. Of a histogram it is the count.
func readings(t *testing.T, text string) map[string]float64 {
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

func (d *daemon) readings(socket string) map[string]float64 {
	d.t.Helper()
	status, text, err := ask(socket, "/metrics")
	if err != nil || status != 200 {
		d.t.Fatalf("read the metrics: status %d, %v\n%s", status, err, text)
	}
	return readings(d.t.(*testing.T), text)
}

// promtool runs Prometheus' own checker, which must have nothing to say but what is wanted.
func promtool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// A hunt, and its numbers are those of the evidence.
func TestMetrics(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		config, evidence, socket := h.metered(gated)
		d := h.huntWith(config, evidence)
		zero := d.readings(socket)
		for _, name := range []string{"culprit_hits_total{badzone}", "culprit_packets_lost_total", "culprit_captures_running", "culprit_firewall_repairs_total"} {
			if v, there := zero[name]; !there || v != 0 {
				t.Errorf("at the beginning %s is %v (%v)", name, v, there)
			}
		}

		a, b := newUID(), newUID()
		s, other := h.sender(a), h.sender(b)
		s.ask("a.badzone.test")
		other.ask("b.badzone.test")
		traced(t, s.process, other.process)
		s.askTimes("again.badzone.test", 3) // each with an id of its own
		var ended []*process
		for i := range 5 {
			p := h.start(a, programs.offenderC, "-n", fmt.Sprintf("short%d.badzone.test", i))
			p.wait()
			ended = append(ended, p)
		}
		for i, p := range ended {
			d.hit(fmt.Sprintf("short%d.badzone.test", i))
			d.trace(p.pid, "has ended", func(t event.Trace) bool { return t.Culprit.State == event.StateEnded })
		}

		// Not every program is: strace may be on its process already.
		eventually(t, "the gate holds a program", func() error {
			if d.readings(socket)["culprit_gate_hold_duration_seconds"] > 0 {
				return nil
			}
			h.start(a, programs.offenderC, "-n", "held.goodzone.test").wait()
			return errors.New("it has not")
		})

		eventually(t, "the numbers are those of the evidence", func() error {
			// First what can only grow, then what it must have reached.
			hits, traces, captures := d.hits(), d.traces(), d.captures()
			got := d.readings(socket)
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
				"culprit_straces_running":               len(d.straces()),
				"culprit_proofs_total":                  proven,
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
				if at := got["culprit_loop_last_turn_timestamp_seconds{"+loop+"}"]; at < float64(time.Now().Add(-patience).Unix()) {
					return fmt.Errorf("the loop of %s turned at %v", loop, at)
				}
			}
			return nil
		})
		if status, body, err := ask(socket, "/healthz"); status != 200 || body != "ok\n" {
			t.Errorf("healthz: %d %q %v", status, body, err)
		}

		h.Must(t, "iptables", "-t", "raw", "-F", "OUTPUT")
		eventually(t, "the repair is counted", func() error {
			if got := d.readings(socket); got["culprit_firewall_repairs_total"] < 1 || got["culprit_firewall_gap_seconds_total"] <= 0 {
				return fmt.Errorf("%v repairs, %v seconds", got["culprit_firewall_repairs_total"], got["culprit_firewall_gap_seconds_total"])
			}
			return nil
		})

		d.reload(t, gated+"rules: [{name: later, string: LATER}]\nmetrics: {listen: \"unix:"+socket+"\"}", "reloaded")
		if v, there := d.readings(socket)["culprit_hits_total{later}"]; !there || v != 0 {
			t.Errorf("the rule of the new configuration has %v hits (%v)", v, there)
		}
		d.reload(t, gated+badzone+"metrics: {listen: \"\"}", refused)
		if !strings.Contains(d.output.String(), "cannot change metrics") {
			t.Errorf("another listener was not refused")
		}
		eventually(t, "the refusal is told", func() error {
			if got := d.readings(socket)["culprit_config_last_reload_successful"]; got != 0 {
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
		// What others choose is in no label.
		for _, secret := range []string{fmt.Sprint(a), fmt.Sprint(b), "badzone.test", "offender", "python"} {
			if strings.Contains(text, secret) {
				t.Errorf("the metrics say %q:\n%s", secret, text)
			}
		}
		d.stop()
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is still there")
		}
	})
}

// listens lists where the daemon listens, as ss shows it.
func (d *daemon) listens() (lines []string) {
	d.t.Helper()
	for line := range strings.Lines(d.host.Must(d.t, "ss", "-H", "-l", "-t", "-u", "-x", "-n", "-p")) {
		if strings.Contains(line, fmt.Sprintf("pid=%d,", d.pid)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// Nobody listens unless told to; then it is only root, or only this machine.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	before := h.firewall()
	d := h.hunt(longWindow)
	if ls := d.listens(); len(ls) > 0 {
		t.Errorf("by default it listens: %v", ls)
	}
	d.stop()

	for _, address := range []string{"127.0.0.1:9357", "[::1]:9357"} {
		d := h.hunt(longWindow + "metrics: {listen: \"" + address + "\"}\n")
		if ls := d.listens(); len(ls) != 1 || !strings.Contains(ls[0], address) {
			t.Errorf("it listens at %v, want only %s", ls, address)
		}
		if !d.logged("metrics.listen " + address + ": every user of this machine can read") {
			t.Errorf("nothing warns who can read %s", address)
		}
		text := h.Must(t, "curl", "-gsf", "http://"+address+"/metrics")
		if v, there := readings(t, text)["culprit_hits_total{badzone}"]; !there || v != 0 {
			t.Errorf("%s says:\n%s", address, text)
		}
		if ok := h.Must(t, "curl", "-gsf", "http://"+address+"/healthz"); ok != "ok\n" {
			t.Errorf("%s says of its health %q", address, ok)
		}
		h.started++
		config, _ := h.configure("nflog: {group: 4243}\nfirewall: {chain: OTHER}\nmetrics: {listen: \"" + address + "\"}\n")
		held := h.firewall()
		h.culprit("run", "-c", config).fails(t, 1, "metrics.listen", address, "in use by another program")
		h.unchanged(held, "after a second daemon at the same address")
		d.stop()
	}
	config, _ := h.configure("metrics: {listen: \"0.0.0.0:9357\"}\n")
	h.culprit("run", "-c", config).fails(t, 2, "metrics.listen", "0.0.0.0:9357", "can be reached from elsewhere")
	h.unchanged(before, "after all")
}

// The socket is root's. That of a daemon that was killed is replaced, and one in a
// directory of others is not made.
func TestMetricsSocket(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	config, evidence, socket := h.metered(longWindow)
	d := h.huntWith(config, evidence)
	if ls := d.listens(); len(ls) != 1 || !strings.Contains(ls[0], socket) {
		t.Errorf("it listens at %v, want only %s", ls, socket)
	}
	curl := func(uid uint32) result {
		return h.command(as(uid, exec.Command("curl", "-sS", "--unix-socket", socket, "http://localhost/metrics")))
	}
	if out := curl(0).must(t); !strings.Contains(out, "culprit_build_info") {
		t.Errorf("root reads %q", out)
	}
	if r := curl(newUID()); r.code == 0 || strings.Contains(r.out, "culprit") {
		t.Errorf("another user reads it: %d %s", r.code, r.out)
	}
	d.signal(syscall.SIGKILL)
	d.wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("the socket of a daemon that was killed: %v", err)
	}
	d = h.huntWith(config, evidence)
	curl(0).must(t)
	d.stop()

	if err := os.Chmod(h.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.culprit("run", "-c", config).fails(t, 1, "metrics.listen", h.dir, "can be written to by others")
}

// Who connects and reads nothing, as often as possible, holds up nobody.
func TestMetricsSlowReaders(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	config, evidence, socket := h.metered(longWindow)
	d := h.huntWith(config, evidence)
	for range 24 { // more than it serves at once
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.UnixConn).SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		for range 64 { // answers that nobody takes
			if err := c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				break
			}
		}
	}
	s := h.sender(newUID())
	s.ask("x.badzone.test")
	traced(t, s.process)
	d.hit("x.badzone.test")
	eventually(t, "the slow readers are cut off, and another one is served", func() error {
		status, _, err := ask(socket, "/metrics")
		if err != nil || status != 200 {
			return fmt.Errorf("status %d, %v", status, err)
		}
		return nil
	})
	d.stop()
}

// What goes wrong with the disk is counted, as much as the losses say.
func TestMetricsDiskFull(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	disk := h.smallDisk(8 << 20)
	dir := filepath.Join(disk, "evidence")
	config, _, socket := h.metered(longWindow + fmt.Sprintf("evidence: {dir: %s, min_free: 0B}\n", dir))
	d := h.huntWith(config, dir)
	s := h.sender(newUID())
	s.ask("first.badzone.test")
	d.hit("first.badzone.test")
	full := filepath.Join(disk, "full")
	h.fill(full)
	n := 0
	eventually(t, "hits that cannot be written are counted", func() error {
		s.ask(fmt.Sprintf("full%d.badzone.test", n))
		n++
		got := d.readings(socket)
		if got["culprit_catalogue_write_failures_total"] < 1 || got["culprit_catalogue_dropped_total"] < 1 {
			return fmt.Errorf("%v failures, %v dropped", got["culprit_catalogue_write_failures_total"], got["culprit_catalogue_dropped_total"])
		}
		return nil
	})
	h.Do(func() {
		if err := os.Remove(full); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the losses are as many", func() error {
		s.ask("free.badzone.test")
		var lost uint64
		for _, l := range list[event.Loss](d, "losses") {
			if l.Culprit.Code == event.LossUnrecorded {
				lost += l.Culprit.Count
			}
		}
		if got := d.readings(socket)["culprit_catalogue_dropped_total"]; got != float64(lost) {
			return fmt.Errorf("%v are counted, %d in the catalogue", got, lost)
		}
		return nil
	})
	d.stop()
}

// The alerting rules are right, and raise what they should.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool(t, "", "check", "rules", "../docs/alerts.yaml")
	promtool(t, "", "test", "rules", "testdata/alerts-test.yaml")
}

// Each expression of the dashboard is PromQL.
func TestDashboardExpressions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var rules bytes.Buffer
	fmt.Fprintln(&rules, "groups: [{name: dashboard, rules: [")
	n := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$instance", ".*").Replace(target.Expr)
			quoted, err := json.Marshal(expr)
			if err != nil {
				t.Fatal(err)
			}
			if left := regexp.MustCompile(`\$\w+`).FindString(expr); left != "" {
				t.Errorf("%s: who fills in %s?", expr, left)
			}
			fmt.Fprintf(&rules, "{record: expression%d, expr: %s},\n", n, quoted)
			n++
		}
	}
	fmt.Fprintln(&rules, "]}]")
	if n == 0 {
		t.Fatal("there are none")
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, rules.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}
