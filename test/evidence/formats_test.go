package evidence

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"culprit/internal/testkit/otlpvalue"
	"culprit/test/harness"
)

// A file of OCSF has each event once, though the daemon is killed meanwhile.
func TestEventsOCSF(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	path := filepath.Join(h.Dir, "events.json")
	config, evidence := h.Configure("events: {file: " + path + ", format: ocsf}\n" + harness.LongWindow)
	var d *harness.Daemon
	var pid int
	for round := range 2 {
		d = h.HuntWith(config, evidence)
		s := h.Sender(harness.NewUID())
		pid = s.PID
		name := fmt.Sprintf("x%d.badzone.test", round)
		s.Ask(name)
		d.Hit(name)
		if round == 0 {
			d.Signal(syscall.SIGKILL)
			d.Wait()
			d.Gone()
		}
	}
	d.Stop()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		var e struct {
			Class    int `json:"class_uid"`
			Metadata struct{ Sequence int }
			Query    struct{ Hostname string }
			Actor    struct{ Process struct{ PID int } }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Metadata.Sequence != i+1 {
			t.Fatalf("%v: line %d is %s", err, i+1, line)
		}
		if e.Class == 4003 {
			names[e.Query.Hostname] = e.Actor.Process.PID
		}
	}
	if len(names) != 2 || names["x1.badzone.test"] != pid {
		t.Errorf("hits with the processes %v, want two, the last of %d", names, pid)
	}
}

// Events reach a collector of OpenTelemetry each, in order, though it is busy at first and the
// daemon is killed. What comes twice has the same uid.
func TestEventsOTLP(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	c := &logCollector{lines: map[string]string{}}
	var l net.Listener
	h.Do(func() {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	})
	server := &http.Server{Handler: c}
	go server.Serve(l)
	defer server.Close()
	config, evidence := h.Configure("events: {otlp: {endpoint: 'http://" + l.Addr().String() + "'}}\n" + harness.LongWindow)
	var d *harness.Daemon
	for round := range 2 {
		d = h.HuntWith(config, evidence)
		s := h.Sender(harness.NewUID())
		for i := range 4 {
			name := fmt.Sprintf("x%d-%d.badzone.test", round, i)
			s.Ask(name)
			d.Hit(name)
		}
		harness.Traced(t, s.Process)
		if round == 0 {
			d.Signal(syscall.SIGKILL)
			d.Wait()
			d.Gone()
		}
	}
	d.Stop()
	for starts := 0; strings.Contains(d.Output.String(), "wait to be sent out at the next start") && starts < 10; starts++ {
		d = h.HuntWith(config, evidence)
		d.Stop()
	}
	complete(t, d, parseEvents(t, c.all(t)))
}

// A logCollector keeps the bodies of the records that it gets, as JSON. It refuses the first request.
type logCollector struct {
	mu    sync.Mutex
	busy  bool
	lines map[string]string // by uid
	order []string
}

func (c *logCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy {
		c.busy = true
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var export collector.ExportLogsServiceRequest
	text, err := gzip.NewReader(r.Body)
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(text); err == nil {
			err = proto.Unmarshal(b, &export)
		}
	}
	if err != nil || r.URL.Path != "/v1/logs" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	for _, of := range export.ResourceLogs {
		for _, scope := range of.ScopeLogs {
			for _, record := range scope.LogRecords {
				c.take(record.Attributes, record.Body)
			}
		}
	}
}

func (c *logCollector) take(attributes []*common.KeyValue, body *common.AnyValue) {
	for _, a := range attributes {
		if uid := a.Value.GetStringValue(); a.Key == "log.record.uid" && c.lines[uid] == "" {
			line, _ := json.Marshal(otlpvalue.Plain(body))
			c.lines[uid] = string(line) + "\n"
			c.order = append(c.order, uid)
		}
	}
}

func (c *logCollector) all(t *testing.T) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, uid := range c.order {
		b.WriteString(c.lines[uid])
	}
	return b.String()
}
