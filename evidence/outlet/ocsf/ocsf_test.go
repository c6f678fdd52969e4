package ocsf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"culprit/internal/event"
)

var (
	converter = Converter{Host: "web-1", Version: "1.2"}
	when      = time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.UTC)
	exit      = 137
	php       = event.Process{
		PID: 812, EntityID: "812-4711", Start: when.Add(-time.Second), Name: "php", Executable: "/usr/bin/php8.2", CommandLine: "php /tmp/cron.php",
		WorkingDirectory: "/srv", RealUser: &event.User{ID: "33", Name: "www-data", Group: &event.Group{ID: "33"}}, ExitCode: &exit,
		Parent: &event.Process{PID: 811, EntityID: "811-4710", Start: when.Add(-time.Minute), Name: "sh", CommandLine: "sh -c 'php /tmp/cron.php; true'", LeftOut: 3},
	}
	wwwData = event.User{ID: "33", Name: "www-data", Inside: event.Inside{ID: "33", Name: "web", Container: "c"}}
	place   = event.Place{
		Container:    &event.Container{ID: "0123", Name: "web", Runtime: "docker", Image: &event.Image{Name: "docker.io/library/php:8"}, Claimed: true},
		Orchestrator: &event.Orchestrator{Type: "kubernetes", Namespace: "shop", Resource: event.Resource{Type: "pod", Name: "web-0", ID: "u"}},
	}
)

func hit() *event.Hit {
	h := &event.Hit{
		Timestamp: when, Event: event.Meta{ID: "01HIT", Kind: "alert", Action: event.ActionHit}, Rule: event.Rule{Name: "badzone"}, User: &wwwData,
		Network: event.Network{Transport: "udp", Type: "ipv4", Bytes: 65},
		Source:  event.Endpoint{IP: netip.MustParseAddr("192.0.2.1"), Port: 4711}, Destination: event.Endpoint{IP: netip.MustParseAddr("192.0.2.53"), Port: 53},
		DNS:     &event.DNS{ID: "27432", Question: event.Question{Name: "x.badzone.test", Type: "A", Class: "IN"}},
		Threat:  event.NewThreat(event.Listed{File: "/l/urlhaus.txt", Line: 7}, "badzone.test", "C2"),
		Process: &php, Place: place,
	}
	h.Culprit.Capture = &event.Reference{ID: "01CAP"}
	h.Culprit.Origin.Grade = event.GradeKernel
	h.Culprit.Count = 2
	return h
}

// line makes the line of an event as the outbox does.
func line(t testing.TB, sequence int, action string, doc any) string {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return `{"ecs":{"version":"8.11.0"},` + strings.Replace(string(b[1:]), `"event":{`,
		fmt.Sprintf(`"event":{"sequence":%d,"module":"culprit","dataset":"culprit.%s",`, sequence, action), 1) + "\n"
}

func events(t testing.TB) map[string]string {
	tcp, lo, bare := hit(), hit(), hit()
	tcp.DNS, tcp.Threat, tcp.Network, tcp.Place, tcp.Process = nil, nil, event.Network{Transport: "tcp", Type: "ipv6"}, event.Place{}, nil
	lo.Destination.IP, lo.Network.Transport = netip.MustParseAddr("127.0.0.53"), "132"
	bare.User, bare.Process, bare.Place, bare.DNS, bare.Threat = nil, nil, event.Place{}, nil, nil
	bare.Source, bare.Destination, bare.Network = event.Endpoint{}, event.Endpoint{}, event.Network{}
	proof := event.Proof{
		Timestamp: when, Event: event.Meta{ID: "01PROOF", Kind: "event", Action: event.ActionProof}, Rule: event.Rule{Name: "badzone"}, User: wwwData, Process: php,
		File:    event.File{Path: "/var/lib/culprit/traces/01CAP/812-php-01TRACE.strace", Size: 4711},
		Culprit: event.ProofDetail{Capture: event.Reference{ID: "01CAP"}, Hit: event.Reference{ID: "01HIT"}, Trace: event.Reference{ID: "01TRACE"}, TID: 812, Syscall: "sendto", Line: 21, Offset: 2000},
	}
	probable := proof
	probable.Culprit.Probable = true
	probable.Culprit.Parts = []event.Line{{Syscall: "send", Line: 20, Offset: 1900}}
	capture := event.Capture{
		Timestamp: when, Event: event.Meta{ID: "01CAP", Kind: "event", Action: event.ActionCapture, Start: &when}, Rule: &event.Rule{Name: "badzone"}, User: wwwData, Place: place,
		Observer: &event.Observer{Product: "culprit", Version: "1.2"}, Host: &event.Host{Hostname: "web-1.example", OS: event.OS{Kernel: "6.18.0"}},
		Culprit: event.CaptureDetail{State: event.StateRunning, Scope: "user", Level: 1, FirstHit: &event.Reference{ID: "01HIT"}},
	}
	ended := capture
	ended.Event.Finish(when.Add(time.Minute))
	ended.Culprit.State = event.StateEnded
	trace := event.Trace{
		Timestamp: when, Event: event.Meta{ID: "01TRACE", Kind: "event", Action: event.ActionTrace}, User: wwwData, Process: php, Place: place,
		File: event.File{Path: "/var/lib/culprit/traces/t.strace"}, Culprit: event.TraceDetail{Capture: event.Reference{ID: "01CAP"}, State: event.StateRunning},
	}
	noFile := trace
	noFile.File = event.File{}
	snapshot := event.Snapshot{
		Timestamp: when, Event: event.Meta{ID: "01SNAP", Kind: "event", Action: event.ActionSnapshot}, User: wwwData, Place: place,
		Process: event.SnapshotProcess{Process: php, Args: []string{"php", "/tmp/cron.php"}, EnvVars: []string{"A=b=c", "D"}, Hash: &event.Hash{SHA256: strings.Repeat("ab", 32)}},
		Culprit: event.SnapshotDetail{Capture: event.Reference{ID: "01CAP"}, Cgroup: "/x"},
	}
	loss := event.NewLoss(event.LossKernel, "", 3)
	loss.Timestamp, loss.Event.ID = when, "01LOSS"
	detailed := event.NewLoss(event.LossTraceFiles, "keep", 1)
	return map[string]string{
		"hit": line(t, 1, "hit", hit()), "tcp": line(t, 2, "hit", tcp), "lo": line(t, 3, "hit", lo), "bare": line(t, 4, "hit", bare),
		"proof": line(t, 5, "proof", proof), "probable": line(t, 6, "proof", probable), "capture": line(t, 7, "capture", capture), "ended": line(t, 8, "capture", ended),
		"trace": line(t, 9, "trace", trace), "no file": line(t, 10, "trace", noFile), "snapshot": line(t, 11, "snapshot", snapshot),
		"loss": line(t, 12, "loss", loss), "detailed": line(t, 13, "loss", detailed),
		"new":          `{"ecs":{"version":"8.11.0"},"@timestamp":"2026-11-26T12:00:00Z","event":{"sequence":14,"module":"culprit","dataset":"culprit.new","id":"01NEW","action":"new"},"culprit":{"a":1}}` + "\n",
		"not an event": "what?\n", "null": "null\n", "list": "[]\n", "odd": `{"event":{"action":"hit"},"process":{"pid":"x","parent":7},"user":[],"dns":{"question":{"name":1}},"source":3}` + "\n",
	}
}

// Each event is valid by the schema.
func TestValid(t *testing.T) {
	s := readSchema(t)
	for name, in := range events(t) {
		out := converter.Line(in)
		if name == "odd" {
			continue // what is wrong in stays wrong, but does not hurt
		}
		for _, wrong := range s.check(out) {
			t.Errorf("%s%s", name, wrong)
		}
		if t.Failed() {
			t.Log(out)
		}
		if !strings.HasPrefix(out, Prefix) || strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
			t.Errorf("%s is no line of its own: %q", name, out)
		}
	}
	// The test would notice.
	for _, wrong := range []string{
		`{"class_uid":4003}`, `{"class_uid":1}`, "x",
		strings.Replace(converter.Line(events(t)["hit"]), `"type_uid":400301`, `"type_uid":400302`, 1),
		strings.Replace(converter.Line(events(t)["hit"]), `"hostname":"x.badzone.test"`, `"name":"x"`, 1),
		strings.Replace(converter.Line(events(t)["hit"]), `"profiles":["container","osint","host","security_control"]`, `"profiles":["host"]`, 1),
		strings.Replace(converter.Line(events(t)["proof"]), `"uid":"01PROOF"`, `"id":"01PROOF"`, -1),
	} {
		if len(s.check(wrong)) == 0 {
			t.Errorf("valid: %s", wrong)
		}
	}
}

// Where things are.
func TestMapped(t *testing.T) {
	all := events(t)
	for _, one := range []struct {
		event string
		path  string
		want  any
	}{
		{"hit", "class_uid", 4003},
		{"hit", "category_uid", 4},
		{"hit", "activity_id", 1},
		{"hit", "type_uid", 400301},
		{"hit", "type_name", "DNS Activity: Query"},
		{"hit", "severity_id", 3},
		{"hit", "time", 1795694400123},
		{"hit", "count", 2},
		{"hit", "is_alert", true},
		{"hit", "status", "Unknown"},
		{"hit", "message", "php /tmp/cron.php of www-data asked for x.badzone.test A: rule badzone"},
		{"hit", "metadata.uid", "01HIT"},
		{"hit", "metadata.sequence", 1},
		{"hit", "metadata.version", "1.8.0"},
		{"hit", "metadata.product.name", "culprit"},
		{"hit", "metadata.correlation_uid", "01CAP"},
		{"hit", "metadata.log_name", "culprit.hit"},
		{"hit", "query.hostname", "x.badzone.test"},
		{"hit", "query.type", "A"},
		{"hit", "query.class", "IN"},
		{"hit", "query.packet_uid", 27432},
		{"hit", "src_endpoint.ip", "192.0.2.1"},
		{"hit", "src_endpoint.port", 4711},
		{"hit", "dst_endpoint.port", 53},
		{"hit", "connection_info.protocol_num", 17},
		{"hit", "connection_info.direction", "Outbound"},
		{"hit", "traffic.bytes", 65},
		{"hit", "device.hostname", "web-1"},
		{"hit", "firewall_rule.name", "badzone"},
		{"hit", "actor.user.name", "www-data"},
		{"hit", "actor.process.pid", 812},
		{"hit", "actor.process.cmd_line", "php /tmp/cron.php"},
		{"hit", "actor.process.file.name", "php8.2"},
		{"hit", "actor.process.uid", "812-4711"},
		{"hit", "actor.process.user.groups.0.uid", "33"},
		{"hit", "actor.process.parent_process.name", "sh"},
		{"hit", "actor.process.created_time", 1795694399123},
		{"hit", "actor.process.container.image.name", "docker.io/library/php:8"},
		{"hit", "osint.0.value", "badzone.test"},
		{"hit", "osint.0.references.0", "/l/urlhaus.txt:7"},
		{"hit", "osint.0.comment", "C2"},
		{"hit", "observables.0.value", "x.badzone.test"},
		{"hit", "observables.0.type_id", 1},
		{"hit", "unmapped.culprit.origin.grade", "kernel"},
		{"hit", "unmapped.user.inside.name", "web"},
		{"hit", "unmapped.process.exit_code", 137},
		{"hit", "unmapped.process.parent.parents_left_out", 3},
		{"hit", "unmapped.container.claimed", true},
		{"hit", "unmapped.orchestrator.namespace", "shop"},
		{"hit", "unmapped.event", nil},
		{"hit", "unmapped.ecs", nil},
		{"hit", "unmapped.dns", nil},
		{"hit", "unmapped.threat", nil},
		{"hit", "unmapped.process.pid", nil},
		{"tcp", "class_uid", 4001},
		{"tcp", "type_uid", 400106},
		{"tcp", "query", nil},
		{"tcp", "actor.process", nil},
		{"tcp", "connection_info.protocol_ver_id", 6},
		{"lo", "connection_info.direction_id", 4},
		{"lo", "connection_info.protocol_num", 132},
		{"bare", "actor", nil},
		{"bare", "src_endpoint.hostname", "web-1"},
		{"proof", "class_uid", 2004},
		{"proof", "type_uid", 200401},
		{"proof", "finding_info.uid", "01PROOF"},
		{"proof", "finding_info.analytic.name", "badzone"},
		{"proof", "finding_info.title", "php /tmp/cron.php of www-data sent the packet of rule badzone"},
		{"proof", "finding_info.related_events.0.uid", "01HIT"},
		{"proof", "confidence_id", 3},
		{"proof", "is_alert", true},
		{"proof", "evidences.0.data.line", 21},
		{"proof", "evidences.0.file.name", "812-php-01TRACE.strace"},
		{"proof", "evidences.0.uid", "01TRACE"},
		{"probable", "confidence", "Medium"},
		{"probable", "evidences.0.data.parts.0.line", 20},
		{"capture", "finding_info.uid", "01CAP"},
		{"capture", "activity_name", "Create"},
		{"capture", "metadata.correlation_uid", "01CAP"},
		{"capture", "is_alert", false},
		{"capture", "device.hostname", "web-1.example"},
		{"capture", "device.os.kernel_release", "6.18.0"},
		{"capture", "unmapped.culprit.state", "running"},
		{"ended", "activity_id", 2},
		{"ended", "end_time", 1795694460123},
		{"trace", "class_uid", 5040},
		{"trace", "query_evidence.file.name", "t.strace"},
		{"no file", "class_uid", 0},
		{"snapshot", "query_evidence.process.file.hashes.0.value", strings.Repeat("ab", 32)},
		{"snapshot", "actor.process", nil},
		{"snapshot", "query_evidence.process.environment_variables.0.value", "b=c"},
		{"loss", "class_uid", 6008},
		{"loss", "status_code", "kernel"},
		{"loss", "count", 3},
		{"loss", "message", "3 packets dropped by the kernel: the netlink buffer was full"},
		{"detailed", "status_detail", "keep"},
		{"new", "class_uid", 0},
		{"new", "unmapped.culprit.a", 1},
		{"not an event", "raw_data", "what?"},
	} {
		var out any
		if err := json.Unmarshal([]byte(converter.Line(all[one.event])), &out); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Split(one.path, ".") {
			if l, ok := out.([]any); ok {
				out = l[0]
				continue
			}
			out = asObject(out)[key]
		}
		if n, ok := out.(float64); ok {
			out = int(n)
		}
		if d := cmp.Diff(one.want, out); d != "" {
			t.Errorf("%s: %s (-want +got):\n%s", one.event, one.path, d)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, line := range events(f) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		out := converter.Line(line)
		if !json.Valid([]byte(out)) || !strings.HasPrefix(out, Prefix) || strings.Count(out, "\n") != 1 {
			t.Errorf("%q became %q", line, out)
		}
	})
}
