package serve

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"culprit/evidence"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// token is that of the servers of these tests.
const token = "0123456789abcdef0123456789abcdef"

// hostile is a name that an adversary would choose.
const hostile = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>\x1b[2J\u202e\nx"

// store opens evidence that a daemon writes.
func store(t testing.TB) (*evidence.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

// hitOf makes a hit of the user 7 that asks for a name.
func hitOf(name string, change ...func(*event.Hit)) *event.Hit {
	h := &event.Hit{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
		Rule: event.Rule{Name: "badzone"}, User: &event.User{ID: "7"},
		Network: event.Network{Transport: "udp", Type: "ipv4", Bytes: 60},
		Source:  event.Endpoint{IP: netip.MustParseAddr("192.0.2.1"), Port: 4000}, Destination: event.Endpoint{IP: netip.MustParseAddr("192.0.2.53"), Port: 53},
		DNS:     &event.DNS{ID: "1", Question: event.Question{Name: name, Type: "A", Class: "IN"}},
		Process: &event.Process{PID: 812, EntityID: "812-1", Start: time.Now(), CommandLine: "php " + name},
		Culprit: event.HitDetail{Count: 1, Origin: event.Origin{Grade: event.GradeSocket}, NoCapture: &event.NoCapture{Code: event.NoCaptureStopping}},
		Packet:  []byte{0x45, 0, 1, 2},
	}
	for _, f := range change {
		f(h)
	}
	return h
}

// start serves the evidence in dir until the test ends or stop is called.
func start(t testing.TB, dir, address string) (at string, stop func()) {
	t.Helper()
	s, err := New(dir, Door{Token: token}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l); close(done) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return "http://" + l.Addr().String(), stop
}

// get gets a page with the token.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// shows waits until a page is there and has a text.
func shows(t testing.TB, url, text string) (body string) {
	t.Helper()
	testkit.Eventually(t, url, func() error {
		var status int
		if status, body = get(t, url); status != 200 || !contains(body, text) {
			return fmt.Errorf("%d, without %q: %s", status, text, body)
		}
		return nil
	})
	return body
}

// traceOf makes a trace with a file.
func traceOf(t testing.TB, s *evidence.Store, capture, text string) event.Trace {
	t.Helper()
	now := time.Now()
	tr := event.Trace{
		Timestamp: now, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &now}, User: event.User{ID: "7"},
		Process: event.Process{PID: 812, EntityID: "812-1", Name: "php", Start: now, CommandLine: "php cron.php"},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: capture}, State: event.StateRunning, FoundBy: event.FoundExec},
	}
	f, err := s.Create(&tr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	tr.File.Size = int64(len(text))
	s.Trace(tr)
	return tr
}
