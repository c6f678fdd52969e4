package outlet

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"culprit/internal/testkit/otlpvalue"
)

// A receiver is a collector of OpenTelemetry that answers as a test wants it.
type receiver struct {
	mu       sync.Mutex
	took     []*logs.LogRecord // those of requests that it answered with 200, rejected or not
	resource []*common.KeyValue
	header   http.Header // of the last request
	requests int
	// answer decides about the records of a request; nil: takes them.
	answer func(w http.ResponseWriter, records []*logs.LogRecord) (taken bool)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body := io.Reader(request.Body)
	if request.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(body)
	}
	b, err := io.ReadAll(body)
	var export collector.ExportLogsServiceRequest
	if err != nil || proto.Unmarshal(b, &export) != nil || request.URL.Path != "/v1/logs" {
		http.Error(w, "no logs", http.StatusNotFound)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	r.header = request.Header
	var records []*logs.LogRecord
	for _, of := range export.ResourceLogs {
		r.resource = of.Resource.Attributes
		for _, scope := range of.ScopeLogs {
			records = append(records, scope.LogRecords...)
		}
	}
	if r.answer == nil || r.answer(w, records) {
		r.took = append(r.took, records...)
	}
}

// answers sets the answer.
func (r *receiver) answers(f func(w http.ResponseWriter, records []*logs.LogRecord) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// sequences returns the numbers of the events that were taken.
func (r *receiver) sequences() (numbers []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.took {
		numbers = append(numbers, number(one))
	}
	return numbers
}

// number returns the number of the event that a record is of.
func number(r *logs.LogRecord) uint64 {
	uid := attr(r.Attributes, "log.record.uid").GetStringValue()
	n, _ := strconv.ParseUint(uid[strings.LastIndexByte(uid, '-')+1:], 10, 64)
	return n
}

func attr(attributes []*common.KeyValue, name string) *common.AnyValue {
	for _, a := range attributes {
		if a.Key == name {
			return a.Value
		}
	}
	return nil
}

func status(code int, headers ...string) func(http.ResponseWriter, []*logs.LogRecord) bool {
	return func(w http.ResponseWriter, _ []*logs.LogRecord) bool {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(w, "this is \x1b[31mwhy", code)
		return false
	}
}

// collect starts a receiver, and an outlet to it.
func collect(t *testing.T) (*receiver, *OTLP) {
	r := new(receiver)
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return r, open(t, OTLPOptions{Endpoint: s.URL + "/v1/logs"})
}

func open(t *testing.T, options OTLPOptions) *OTLP {
	t.Helper()
	if options.Timeout == 0 {
		options.Timeout = 30 * time.Second
	}
	options.Version = "1.2"
	o, err := OpenOTLP(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close(context.Background()) })
	return o
}

func otlpEvents(from, to int) (events []Event) {
	for n := from; n <= to; n++ {
		events = append(events, Event{uint64(n), fmt.Sprintf(`{"ecs":{"version":"8.11.0"},"@timestamp":"2026-11-26T12:00:00.123456789Z","event":{"sequence":%d,"module":"culprit","id":"01M8","action":"hit"}}`, n) + "\n"})
	}
	return events
}

func wantNumbers(t *testing.T, got []uint64, from, to uint64) {
	t.Helper()
	var want []uint64
	for n := from; n <= to; n++ {
		want = append(want, n)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the collector took other events (-want +got):\n%s", d)
	}
}

func TestOTLPRecord(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x=environment")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	t.Setenv("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "1")
	r, o := collect(t)
	line := `{"ecs":{"version":"8.11.0"},"@timestamp":"2026-11-26T12:00:00.123456789Z","event":{"sequence":7,"module":"culprit","id":"01M8","action":"hit","kind":"alert"},` +
		`"rule":{"name":"badzone"},"user":{"id":"33","name":"www-data"},"network":{"transport":"udp","type":"ipv4"},"source":{"ip":"192.0.2.1","port":4711},` +
		`"destination":{"ip":"192.0.2.53","port":53},"dns":{"question":{"name":"x.badzone.test"}},"process":{"pid":812,"name":"php","command_line":"php <cron>.php","parent":{"pid":1}},` +
		`"culprit":{"count":2,"sent":{"cgroup_id":18446744073709551615},"age_ms":1.5,"big":1e400,"list":["a",{"b":true}],"nothing":null}}`
	if err := o.Send(t.Context(), []Event{{7, line + "\n"}}); err != nil {
		t.Fatal(err)
	}
	if o.Taken() != 7 || len(r.took) != 1 {
		t.Fatalf("taken %d, %d records", o.Taken(), len(r.took))
	}
	record := r.took[0]
	if r.header.Get("X") != "" || r.header.Get("Content-Encoding") != "gzip" || r.header.Get("User-Agent") != "culprit/1.2" {
		t.Errorf("headers %v", r.header)
	}
	if got := record.TimeUnixNano; got != 1795694400123456789 {
		t.Errorf("time %d", got)
	}
	if record.ObservedTimeUnixNano < record.TimeUnixNano-uint64(365*24*time.Hour) || record.ObservedTimeUnixNano == 0 {
		t.Errorf("observed at %d", record.ObservedTimeUnixNano)
	}
	if record.EventName != "culprit.hit" || record.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN || record.SeverityText != "WARN" {
		t.Errorf("event %s, severity %v %s", record.EventName, record.SeverityNumber, record.SeverityText)
	}
	got := map[string]any{}
	for _, a := range record.Attributes {
		got[a.Key] = otlpvalue.Plain(a.Value)
	}
	want := map[string]any{
		"log.record.uid": "01M8-7", "process.pid": int64(812), "process.parent_pid": int64(1), "process.executable.name": "php",
		"process.command_line": "php <cron>.php", "user.id": "33", "user.name": "www-data", "network.transport": "udp",
		"network.type": "ipv4", "source.address": "192.0.2.1", "source.port": int64(4711), "destination.address": "192.0.2.53",
		"destination.port": int64(53), "dns.question.name": "x.badzone.test", "security_rule.name": "badzone",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("attributes (-want +got):\n%s", d)
	}
	body, _ := otlpvalue.Plain(record.Body).(map[string]any)
	wantBody := map[string]any{
		"count": int64(2), "sent": map[string]any{"cgroup_id": "18446744073709551615"}, "age_ms": 1.5, "big": "1e400",
		"list": []any{"a", map[string]any{"b": true}}, "nothing": nil,
	}
	if d := cmp.Diff(wantBody, body["culprit"]); d != "" {
		t.Errorf("culprit in the body (-want +got):\n%s", d)
	}
	host, _ := os.Hostname()
	if got := attr(r.resource, "service.name").GetStringValue() + attr(r.resource, "host.name").GetStringValue(); got != "culprit"+host {
		t.Errorf("resource %v", r.resource)
	}
}

// Answers that say that nothing was taken: the events wait, and come once.
func TestOTLPNotTaken(t *testing.T) {
	for _, code := range []int{301, 307, 401, 403, 404, 429, 500, 502, 503, 504} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			r, o := collect(t)
			o.OnRefused(func(int64, string) { t.Error("events were given up") })
			r.answers(status(code, "Location", "/v1/logs"))
			err := o.Send(t.Context(), otlpEvents(1, 3))
			if err == nil || o.Taken() != 0 || !strings.Contains(err.Error(), o.options.Endpoint) || strings.Contains(err.Error(), "\x1b") {
				t.Fatalf("error %q, taken %d", err, o.Taken())
			}
			r.answers(nil)
			if err := o.Send(t.Context(), otlpEvents(1, 3)); err != nil {
				t.Fatal(err)
			}
			wantNumbers(t, r.sequences(), 1, 3)
		})
	}
}

func TestOTLPRetryAfter(t *testing.T) {
	for _, header := range []string{"3600", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
		r, o := collect(t)
		r.answers(status(http.StatusTooManyRequests, "Retry-After", header))
		if err := o.Send(t.Context(), otlpEvents(1, 1)); err == nil {
			t.Fatal("no error")
		}
		if d := time.Until(o.resume); d > mostRetryAfter || d < mostRetryAfter/2 {
			t.Errorf("it is asked again in %s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // culprit stops
		if err := o.Send(ctx, otlpEvents(1, 1)); err == nil {
			t.Error("it was asked again at once")
		}
		if r.requests != 1 {
			t.Errorf("%d requests, want 1", r.requests)
		}
	}
	for header, want := range map[string]time.Duration{"": 0, "soon": 0, "-1": 0, "2": 2 * time.Second, "99999999999": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := retryAfter(header); got != want {
			t.Errorf("Retry-After: %s waits for %s, want %s", header, got, want)
		}
	}
}

// A collector that takes some of the events says how many it rejected. They are a loss.
func TestOTLPPartialSuccess(t *testing.T) {
	r, o := collect(t)
	lost, why := int64(0), ""
	o.OnRefused(func(n int64, text string) { lost, why = lost+n, text })
	partial := func(n int64, text string) func(w http.ResponseWriter, records []*logs.LogRecord) bool {
		return func(w http.ResponseWriter, _ []*logs.LogRecord) bool {
			b, _ := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: n, ErrorMessage: text}})
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write(b)
			return true
		}
	}
	r.answers(partial(2, "too \x1bold"))
	if err := o.Send(t.Context(), otlpEvents(1, 5)); err != nil || o.Taken() != 5 {
		t.Fatalf("error %v, taken %d", err, o.Taken())
	}
	if lost != 2 || !strings.Contains(why, "too") || strings.Contains(why, "\x1b") {
		t.Errorf("%d were lost: %q", lost, why)
	}
	r.answers(partial(0, "a warning"))
	if err := o.Send(t.Context(), otlpEvents(6, 6)); err != nil || lost != 2 {
		t.Errorf("a warning: error %v, %d lost", err, lost)
	}
	r.answers(partial(1<<40, "")) // more than there were
	if err := o.Send(t.Context(), otlpEvents(7, 7)); err != nil || lost != 3 {
		t.Errorf("more than there were: error %v, %d lost", err, lost)
	}
	// That such a loss was rejected is no new loss, which would be rejected, too.
	loss := `{"event":{"id":"x","action":"loss"},"culprit":{"code":"unwanted","count":1}}`
	r.answers(partial(1, ""))
	if err := o.Send(t.Context(), []Event{{8, loss}}); err != nil || lost != 3 || o.Taken() != 8 {
		t.Errorf("a loss: error %v, %d lost, taken %d", err, lost, o.Taken())
	}
	wantNumbers(t, r.sequences(), 1, 8)
}

// What the collector refuses for good is found by halving, and given up when it takes others.
func TestOTLPRefusedForGood(t *testing.T) {
	r, o := collect(t)
	var lost int64
	o.OnRefused(func(n int64, _ string) { lost += n })
	bad := []uint64{3, 4, 200, 512}
	r.answers(func(w http.ResponseWriter, records []*logs.LogRecord) bool {
		if slices.ContainsFunc(records, func(one *logs.LogRecord) bool { return slices.Contains(bad, number(one)) }) {
			return status(http.StatusBadRequest)(w, nil)
		}
		return true
	})
	if err := o.Send(t.Context(), otlpEvents(1, 512)); err != nil || o.Taken() != 512 || lost != 4 {
		t.Fatalf("error %v, taken %d, lost %d", err, o.Taken(), lost)
	}
	var want []uint64
	for n := uint64(1); n <= 512; n++ {
		if !slices.Contains(bad, n) {
			want = append(want, n)
		}
	}
	if d := cmp.Diff(want, r.sequences()); d != "" {
		t.Errorf("the collector took other events (-want +got):\n%s", d)
	}

	// If it takes none, it is not the events.
	r.answers(status(http.StatusBadRequest))
	before := r.requests
	if err := o.Send(t.Context(), otlpEvents(513, 1024)); err == nil || o.Taken() != 512 || lost != 4 {
		t.Errorf("error %v, taken %d, lost %d", err, o.Taken(), lost)
	}
	if n := r.requests - before; n > 50 {
		t.Errorf("%d requests for events that are all refused", n)
	}
	// A bad event alone waits for another one.
	bad = []uint64{513}
	r.answers(func(w http.ResponseWriter, records []*logs.LogRecord) bool {
		return number(records[0]) != 513 || status(http.StatusRequestEntityTooLarge)(w, nil)
	})
	if err := o.Send(t.Context(), otlpEvents(513, 513)); err == nil || o.Taken() != 512 {
		t.Errorf("error %v, taken %d", err, o.Taken())
	}
	if err := o.Send(t.Context(), otlpEvents(513, 514)); err != nil || o.Taken() != 514 || lost != 5 {
		t.Errorf("error %v, taken %d, lost %d", err, o.Taken(), lost)
	}
}

// A collector that is down, restarts and is slow. What it took without being able to say so comes
// again, with the same uid; OTLP cannot tell.
func TestOTLPRestarts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	o := open(t, OTLPOptions{Endpoint: "http://" + address + "/v1/logs"})
	box := newFakeBox(otlpEvents(1, 2000))
	s := NewSender(o, box, slog.New(slog.DiscardHandler))
	box.wait(t, func() bool { return box.asked > 0 }) // it is down

	r := new(receiver)
	n := 0
	r.answers(func(w http.ResponseWriter, records []*logs.LogRecord) bool {
		n++
		switch n {
		case 2:
			return status(http.StatusServiceUnavailable, "Retry-After", "1")(w, nil)
		case 3: // it dies before it has taken them
			panic(http.ErrAbortHandler)
		}
		return true
	})
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r}
	go server.Serve(l)
	defer server.Close()
	box.wait(t, func() bool { return box.Waiting() == 0 })
	s.Close()
	wantNumbers(t, r.sequences(), 1, 2000)
}

// A collector that takes events and whose answer is lost gets them again, with the same uid, so
// that it can tell.
func TestOTLPAnswerLost(t *testing.T) {
	r, o := collect(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	r.answers(func(http.ResponseWriter, []*logs.LogRecord) bool {
		cancel() // we wait no longer
		<-gone
		return true
	})
	if err := o.Send(ctx, otlpEvents(1, 1)); err == nil || o.Taken() != 0 {
		t.Fatalf("error %v, taken %d", err, o.Taken())
	}
	close(gone)
	if err := o.Send(t.Context(), otlpEvents(1, 1)); err != nil || o.Taken() != 1 {
		t.Fatalf("error %v, taken %d", err, o.Taken())
	}
	if d := cmp.Diff([]uint64{1, 1}, r.sequences()); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if a, b := attr(r.took[0].Attributes, "log.record.uid"), attr(r.took[1].Attributes, "log.record.uid"); !proto.Equal(a, b) {
		t.Errorf("the uids differ: %v and %v", a, b)
	}
}

// A collector that does not answer in time holds up nobody: the events wait.
func TestOTLPSlow(t *testing.T) {
	r, o := collect(t)
	gone := make(chan struct{})
	r.answers(func(http.ResponseWriter, []*logs.LogRecord) bool { <-gone; return false })
	defer close(gone)
	o.options.Timeout = time.Millisecond
	if err := open(t, o.options).Send(t.Context(), otlpEvents(1, 1)); err == nil || o.Taken() != 0 {
		t.Fatalf("error %v, taken %d", err, o.Taken())
	}
}

// Whatever a collector answers is read within bounds.
func FuzzOTLPAnswer(f *testing.F) {
	b, _ := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 3, ErrorMessage: "why"}})
	f.Add(b, "17")
	f.Add([]byte("{}"), "Fri, 27 Nov 2026 12:00:00 GMT")
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		if n, message := partial(body); n < 0 || len(message) > 10*messageBytes || strings.Contains(message, "\x1b") {
			t.Errorf("%d rejected: %q", n, message)
		}
		if d := retryAfter(header); d < 0 || d > mostRetryAfter {
			t.Errorf("Retry-After: %q waits for %s", header, d)
		}
	})
}

func TestOTLPHeadersAndTLS(t *testing.T) {
	r := new(receiver)
	s := httptest.NewTLSServer(r)
	defer s.Close()
	dir := t.TempDir()
	ca, headers := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "headers")
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), 0o644)
	write(headers, "# of the collector\nAuthorization: Bearer one\n\nx-tenant:  a: b \n", 0o600)
	options := OTLPOptions{Endpoint: s.URL + "/v1/logs", CA: ca, HeadersFile: headers, Plain: true}
	o := open(t, options)
	if err := o.Send(t.Context(), otlpEvents(1, 1)); err != nil {
		t.Fatal(err)
	}
	if r.header.Get("Authorization") != "Bearer one" || r.header.Get("X-Tenant") != "a: b" || r.header.Get("Content-Encoding") != "" {
		t.Errorf("headers %v", r.header)
	}
	write(headers, "Authorization: Bearer two\n", 0o600) // a new token needs no restart
	if err := o.Send(t.Context(), otlpEvents(2, 2)); err != nil || r.header.Get("Authorization") != "Bearer two" {
		t.Errorf("error %v, headers %v", err, r.header)
	}
	options.CA = ""
	if err := open(t, options).Send(t.Context(), otlpEvents(3, 3)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody signed: %v", err)
	}
	for _, wrong := range []struct {
		options OTLPOptions
		says    string
	}{
		{OTLPOptions{CA: filepath.Join(dir, "none")}, "events.otlp.ca"},
		{OTLPOptions{CA: headers}, "no certificate"},
		{OTLPOptions{Cert: ca, Key: ca}, "events.otlp.cert"},
		{OTLPOptions{HeadersFile: filepath.Join(dir, "none")}, "events.otlp.headers_file"},
		{OTLPOptions{HeadersFile: ca}, "chmod 600"},
		{OTLPOptions{HeadersFile: filepath.Join(dir, "bad")}, "line 2"},
	} {
		write(filepath.Join(dir, "bad"), "a: b\nno header\n", 0o600)
		wrong.options.Endpoint = s.URL
		if _, err := OpenOTLP(wrong.options); err == nil || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("%+v: error %v, want %q", wrong.options, err, wrong.says)
		}
	}
}

// A fakeBox is a Box in memory.
type fakeBox struct {
	mu     sync.Mutex
	events []Event
	asked  int
	change chan struct{}
}

func newFakeBox(events []Event) *fakeBox {
	return &fakeBox{events: events, change: make(chan struct{}, 1)}
}

func (b *fakeBox) News() <-chan struct{} { return nil }

func (b *fakeBox) Events(_ context.Context, after uint64, most int, take func(uint64, string) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	b.changed()
	for _, e := range b.events {
		if e.Sequence > after && most > 0 {
			if most--; !take(e.Sequence, e.Line) {
				break
			}
		}
	}
	return nil
}

func (b *fakeBox) Remove(upTo uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = slices.DeleteFunc(b.events, func(e Event) bool { return e.Sequence <= upTo })
	b.changed()
	return nil
}

func (b *fakeBox) Waiting() int64 { return int64(len(b.events)) }

func (b *fakeBox) changed() {
	select {
	case b.change <- struct{}{}:
	default:
	}
}

func (b *fakeBox) wait(t *testing.T, until func() bool) {
	t.Helper()
	for late := time.After(30 * time.Second); ; {
		b.mu.Lock()
		ok := until()
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-b.change:
		case <-late:
			t.Fatal("it did not happen within 30 s")
		}
	}
}
