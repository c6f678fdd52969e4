package outlet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"

	"culprit/internal/event"
)

// semantics is the version of the semantic conventions whose names [attributes] has
// (https://opentelemetry.io/docs/specs/semconv/).
const semantics = "https://opentelemetry.io/schemas/1.43.0"

// attributes are the attributes of a record, and where an event has them. The whole event is in
// the body.
var attributes = []struct {
	name string
	path []string
}{
	{"process.pid", []string{"process", "pid"}},
	{"process.parent_pid", []string{"process", "parent", "pid"}},
	{"process.executable.path", []string{"process", "executable"}},
	{"process.executable.name", []string{"process", "name"}},
	{"process.command_line", []string{"process", "command_line"}},
	{"process.working_directory", []string{"process", "working_directory"}},
	{"process.real_user.id", []string{"process", "real_user", "id"}},
	{"process.real_user.name", []string{"process", "real_user", "name"}},
	{"user.id", []string{"user", "id"}},
	{"user.name", []string{"user", "name"}},
	{"network.transport", []string{"network", "transport"}},
	{"network.type", []string{"network", "type"}},
	{"source.address", []string{"source", "ip"}},
	{"source.port", []string{"source", "port"}},
	{"destination.address", []string{"destination", "ip"}},
	{"destination.port", []string{"destination", "port"}},
	{"dns.question.name", []string{"dns", "question", "name"}},
	{"security_rule.name", []string{"rule", "name"}},
	{"file.path", []string{"file", "path"}},
	{"container.id", []string{"container", "id"}},
	{"container.name", []string{"container", "name"}},
	{"container.image.name", []string{"container", "image", "name"}},
	{"k8s.namespace.name", []string{"orchestrator", "namespace"}},
	{"k8s.pod.name", []string{"orchestrator", "resource", "name"}},
	{"k8s.pod.uid", []string{"orchestrator", "resource", "id"}},
}

// A recordMaker makes records of events.
type recordMaker struct {
	body   func(line string) string
	logger log.Logger
	made   *catcher
}

func newRecordMaker(version string, body func(string) string) *recordMaker {
	host, _ := os.Hostname()
	m := &recordMaker{body: body, made: new(catcher)}
	m.logger = sdklog.NewLoggerProvider(
		sdklog.WithProcessor(m.made),
		sdklog.WithAllowKeyDuplication(), // there is none: what was an object of JSON has each key once
		sdklog.WithAttributeCountLimit(-1),
		sdklog.WithAttributeValueLengthLimit(-1),
		sdklog.WithResource(resource.NewWithAttributes(semantics,
			attribute.String("service.name", "culprit"),
			attribute.String("service.version", version),
			attribute.String("host.name", host),
			attribute.String("os.type", "linux"),
		)),
	).Logger("culprit")
	return m
}

// A catcher is the processor of the SDK that keeps the record it was given last: only the SDK can
// make one with a resource.
type catcher struct{ record sdklog.Record }

func (c *catcher) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (c *catcher) OnEmit(_ context.Context, r *sdklog.Record) error {
	c.record = r.Clone()
	return nil
}

func (c *catcher) Shutdown(context.Context) error   { return nil }
func (c *catcher) ForceFlush(context.Context) error { return nil }

// record makes the record of an event.
func (m *recordMaker) record(e Event) sdklog.Record {
	doc := decode(e.Line)
	var r log.Record
	body := any(doc)
	if m.body != nil {
		body = decode(m.body(e.Line))
	}
	r.SetBody(value(body))
	if at, err := time.Parse(time.RFC3339Nano, words(doc, "@timestamp")); err == nil {
		r.SetTimestamp(at)
	}
	action := words(doc, "event", "action")
	r.SetEventName("culprit." + action)
	r.SetSeverity(log.SeverityInfo)
	r.SetSeverityText("INFO")
	if action == event.ActionHit || action == event.ActionLoss {
		r.SetSeverity(log.SeverityWarn)
		r.SetSeverityText("WARN")
	}
	// The same document is sent again when it changes, as another event.
	r.AddAttributes(attribute.String("log.record.uid", fmt.Sprintf("%s-%d", words(doc, "event", "id"), e.Sequence)))
	for _, a := range attributes {
		if v := value(at(doc, a.path...)); v.Type() != attribute.EMPTY {
			r.AddAttributes(attribute.KeyValue{Key: attribute.Key(a.name), Value: v})
		}
	}
	m.logger.Emit(context.Background(), r)
	return m.made.record
}

// isRefusal reports whether an event tells of events that were refused.
func isRefusal(line string) bool {
	doc := decode(line)
	return words(doc, "event", "action") == event.ActionLoss && words(doc, "culprit", "code") == string(event.LossUnwanted)
}

// decode reads an event. Numbers stay as they are written.
func decode(line string) (doc map[string]any) {
	d := json.NewDecoder(bytes.NewReader([]byte(line)))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return map[string]any{"message": line} // no event of ours
	}
	return doc
}

// at returns what an event has at a path, nil if it has nothing there.
func at(doc any, path ...string) any {
	for _, key := range path {
		object, _ := doc.(map[string]any)
		doc = object[key]
	}
	return doc
}

// words is at for texts.
func words(doc any, path ...string) string {
	s, _ := at(doc, path...).(string)
	return s
}

// value turns what was JSON into a value of OpenTelemetry. A number that it cannot hold becomes a text.
func value(v any) attribute.Value {
	switch v := v.(type) {
	case string:
		return attribute.StringValue(v)
	case bool:
		return attribute.BoolValue(v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return attribute.Int64Value(n)
		}
		if bytes.ContainsAny([]byte(v), ".eE") {
			if f, err := v.Float64(); err == nil {
				return attribute.Float64Value(f)
			}
		}
		return attribute.StringValue(v.String())
	case []any:
		values := make([]attribute.Value, 0, len(v))
		for _, one := range v {
			values = append(values, value(one))
		}
		return attribute.SliceValue(values...)
	case map[string]any:
		pairs := make([]attribute.KeyValue, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key != "" {
				pairs = append(pairs, attribute.KeyValue{Key: attribute.Key(key), Value: value(v[key])})
			}
		}
		return attribute.MapValue(pairs...)
	}
	return attribute.Value{}
}
