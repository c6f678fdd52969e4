package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"culprit/internal/event"
	"culprit/internal/listen"
)

// source is a daemon that has done nothing yet.
func source() Source {
	return Source{
		Version: "1.0", Commit: "abc", Tables: []string{"hits"},
		Waiting: func() int { return 0 }, Catalogue: func() Catalogue { return Catalogue{} }, Sensor: func() Sensor { return Sensor{Way: "none"} }, Recorded: func() uint64 { return 0 }, Filtered: func() map[string]Filtered { return nil },
		Connected: func() float64 { return 0 },
	}
}

// serve serves metrics until the test ends or stop is called, which waits for the end.
func serve(t *testing.T, m *Metrics, loops ...Loop) (address string, stop func()) {
	t.Helper()
	l, err := listen.On(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Serve(ctx, l, slog.New(slog.DiscardHandler), loops...)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// turns is a loop that turns.
func turns(ctx context.Context) error { return ctx.Err() }

func TestServe(t *testing.T) {
	t.Parallel()
	m := New(source())
	m.Rules([]string{"badzone"})
	m.Hit("badzone", event.GradeSocket)
	address, stop := serve(t, m, Loop{"packets", turns})
	status, body := get(t, "http://"+address+"/metrics")
	for _, want := range []string{
		`culprit_hits_total{origin="socket",rule="badzone"} 1`, `culprit_hits_total{origin="none",rule="badzone"} 0`, `culprit_hits_total{origin="kernel",rule="badzone"} 0`,
		`culprit_build_info{`, `version="1.0"`, `go_goroutines `, `process_resident_memory_bytes `,
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("status %d, no %s in\n%s", status, want, body)
		}
	}
	if status, body := get(t, "http://"+address+"/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", status, body)
	}
	if status, _ := get(t, "http://"+address+"/debug/pprof/"); status != 404 {
		t.Errorf("another path: %d", status)
	}
	if r, err := http.Post("http://"+address+"/metrics", "text/plain", strings.NewReader("x")); err != nil || r.StatusCode != 405 {
		t.Errorf("a POST: %v %v", r, err)
	}
	stop()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// A reader that connects and sends nothing, or reads nothing, delays neither other readers nor
// the end.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	m := New(source())
	address, stop := serve(t, m)
	for i := range maxConnections - 1 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") // and never reads
		}
	}
	if status, _ := get(t, "http://"+address+"/metrics"); status != 200 && status != 503 {
		t.Errorf("beside slow readers: %d", status)
	}
	m.Hit("badzone", event.GradeNone) // does not wait
	stop()
}

func TestStuck(t *testing.T) {
	t.Parallel()
	h := newHealth([]Loop{{"packets", turns}, {"captures", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}}, func(string, time.Time) {})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.run(ctx)
	}()
	for h.last[0].Load() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	began := h.since
	turned := *h.last[0].Load()
	for now, want := range map[time.Time]string{
		began:                                "",
		began.Add(stuckAfter):                "",
		turned.Add(stuckAfter + time.Second): "stuck: the loop of packets has not turned for 16s\nstuck: the loop of captures has not turned for ",
	} {
		if got := h.stuck(now); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("after %v: %q, want %q", now.Sub(began), got, want)
		}
	}
	h.last[0].Store(&[]time.Time{began.Add(time.Hour)}[0])
	if got := h.stuck(began.Add(time.Hour)); got != "stuck: the loop of captures has not turned for 1h0m0s\n" {
		t.Errorf("one of them: %q", got)
	}
}

// all returns metrics with a value in each.
func all() *Metrics {
	s := source()
	s.Catalogue = func() Catalogue {
		return Catalogue{Waiting: 1, Dropped: 2, Failures: 3, Proofs: 4, Kernel: 9, Probable: 5, Uncompared: 6, Unsent: 7, Lost: 8, FleetUnsent: 10, FleetLost: 11}
	}
	s.Waiting = func() int { return 7 }
	s.Sensor = func() Sensor {
		return Sensor{Way: "nflog", Freezes: true, Lost: 1, Unread: 2, Unjoined: 3, Unstopped: map[event.UnstoppedCode]uint64{event.UnstoppedAgain: 4}}
	}
	m := New(s)
	m.Rules([]string{"badzone"})
	return m
}

// Names and units follow the rules of Prometheus.
func TestLint(t *testing.T) {
	t.Parallel()
	m := all()
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %+v", err, problems)
	}
}

// The metrics have the values that were counted.
func TestCounts(t *testing.T) {
	t.Parallel()
	m := all()
	m.Repeated(5)
	m.Lost(event.LossDetail{Code: event.LossRate, Count: 7})
	m.Lost(event.LossDetail{Code: event.LossForeign, Count: 8})
	m.Lost(event.LossDetail{Code: event.LossOverruns, Count: 9})
	m.Started()
	m.Running(2, 3)
	m.Attached(event.FoundGate, 3*time.Millisecond)
	m.Attached("by magic", time.Second)
	m.AttachedAfter(35 * time.Millisecond)
	m.AttachFailed("gone")
	m.Untraced("level")
	m.Overrun()
	m.Held(2500 * time.Microsecond)
	m.GateExpired(4)
	m.GateUnheld(5)
	m.GateFailed()
	m.WentOn(event.WentOnTraced, 2500*time.Microsecond)
	m.WentOn(event.WentOnLetGo, time.Millisecond)
	m.WentOn(event.WentOnExpired, 0)
	m.SensorFailed()
	f := m.TraceFile(discard{})
	fmt.Fprint(f, "twelve bytes")
	f.Close()
	m.TraceDropped(13)
	m.Bounds(100, 10)
	m.Swept(Sweep{Bytes: 50, Free: 60, Evictions: map[Eviction]int{{"trace", event.RemovedKeep}: 2}, Expired: map[string]int64{"hits": 3}}, nil)
	m.Swept(Sweep{}, io.EOF) // which measured nothing
	m.Repaired(1500 * time.Millisecond)
	m.RepairFailed()
	m.Reloaded(true)
	m.Reloaded(false)
	want := `culprit_hit_repeats_total 4
culprit_packets_lost_total{reason="kernel"} 0
culprit_packets_lost_total{reason="queue"} 0
culprit_packets_lost_total{reason="rate"} 7
culprit_packets_ignored_total{reason="foreign"} 8
culprit_nflog_overruns_total 9
culprit_packets_waiting 7
culprit_captures_started_total 1
culprit_captures_running 2
culprit_straces_running 3
culprit_attach_duration_seconds_bucket{found_by="gate",le="0.002"} 0
culprit_attach_duration_seconds_bucket{found_by="gate",le="0.003"} 1
culprit_attach_duration_seconds_count{found_by="gate"} 1
culprit_hit_attach_duration_seconds_bucket{le="0.04"} 1
culprit_hit_attach_duration_seconds_count 1
culprit_attach_failures_total{reason="gone"} 1
culprit_processes_untraced_total{reason="level"} 1
culprit_process_event_overruns_total 1
culprit_gate_hold_duration_seconds_sum 0.0025
culprit_gate_expired_holds_total 4
culprit_gate_unheld_programs_total 5
culprit_gate_failures_total 1
culprit_sensor_info{stops="true",way="nflog"} 1
culprit_sensor_lost_total 1
culprit_sensor_unread_total 2
culprit_sensor_unjoined_total 3
culprit_sensor_unstopped_total{reason="again"} 4
culprit_sensor_unstopped_total{reason="traced"} 0
culprit_sensor_stops_total{outcome="traced"} 1
culprit_sensor_stops_total{outcome="let_go"} 1
culprit_sensor_stops_total{outcome="expired"} 1
culprit_sensor_stop_duration_seconds_bucket{le="0.002"} 1
culprit_sensor_stop_duration_seconds_count 2
culprit_sensor_failures_total 1
culprit_trace_written_bytes_total 12
culprit_trace_dropped_bytes_total 13
culprit_proofs_total{certainty="certain"} 4
culprit_proofs_total{certainty="kernel"} 9
culprit_proofs_total{certainty="probable"} 5
culprit_proof_uncompared_total 6
culprit_catalogue_waiting 1
culprit_catalogue_dropped_total 2
culprit_catalogue_write_failures_total 3
culprit_catalogue_expired_rows_total{table="hits"} 3
culprit_evidence_bytes 50
culprit_evidence_free_bytes 60
culprit_evidence_limit_bytes 100
culprit_evidence_min_free_bytes 10
culprit_evidence_evictions_total{file="trace",reason="keep"} 2
culprit_evidence_sweep_failures_total 1
culprit_firewall_repairs_total 1
culprit_firewall_repair_failures_total 1
culprit_firewall_gap_seconds_total 1.5
culprit_config_last_reload_successful 0
`
	address, _ := serve(t, m)
	_, body := get(t, "http://"+address+"/metrics")
	for line := range strings.Lines(want) {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
	if n, err := testutil.GatherAndCount(m.registry, "culprit_attach_duration_seconds"); err != nil || n != len(foundBy) {
		t.Errorf("%d ways to find a process (%v), want %d", n, err, len(foundBy))
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }
