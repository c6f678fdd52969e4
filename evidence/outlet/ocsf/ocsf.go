// Package ocsf turns events, which are documents of the Elastic Common Schema, into events of the
// Open Cybersecurity Schema Framework (https://schema.ocsf.io). It is pure.
//
// A hit is a DNS Activity, or a Network Activity if it asks nothing. A proof and a capture are
// Detection Findings: what was found out, and the campaign to find out. A trace and a snapshot are
// Live Evidence Info, which is for forensic information from a device. A loss is an Application
// Error, which is for issues of the software that makes events.
package ocsf

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// Version is the version of the schema.
const Version = "1.8.0"

// Prefix is how each converted event begins.
const Prefix = `{"metadata":{`

// A Converter converts events of one machine.
type Converter struct {
	Host    string // its name
	Version string // of culprit
}

// class is a class of the schema, and what culprit does in it.
type class struct {
	uid, activity int
	name, doing   string
	severity      int
	profiles      []string
	category      int
	categoryName  string
}

var (
	dns     = class{uid: 4003, name: "DNS Activity", activity: 1, doing: "Query", severity: 3, category: 4, categoryName: "Network Activity", profiles: []string{"host", "security_control"}}
	network = class{uid: 4001, name: "Network Activity", activity: 6, doing: "Traffic", severity: 3, category: 4, categoryName: "Network Activity", profiles: []string{"host", "security_control"}}
	finding = class{uid: 2004, name: "Detection Finding", activity: 1, doing: "Create", severity: 4, category: 2, categoryName: "Findings", profiles: []string{"host"}}
	info    = class{uid: 5040, name: "Live Evidence Info", activity: 1, doing: "Query", severity: 1, category: 5, categoryName: "Discovery", profiles: []string{"host"}}
	failure = class{uid: 6008, name: "Application Error", activity: 1, doing: "General Error", severity: 2, category: 6, categoryName: "Application Activity", profiles: []string{"host"}}
	other   = class{uid: 0, name: "Base Event", activity: 99, doing: "Other", severity: 1, category: 0, categoryName: "Uncategorized", profiles: []string{"host"}}
)

var severities = map[int]string{1: "Informational", 2: "Low", 3: "Medium", 4: "High"}

// Line converts the line of an event. What the schema has no place for is in "unmapped". A line
// that is no event becomes a Base Event with the line as it is.
func (c Converter) Line(line string) string {
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	var in object
	out := object{}
	if err := d.Decode(&in); err != nil || in == nil {
		in = object{}
		out["raw_data"] = strings.TrimSuffix(line, "\n")
	}
	meta := c.event(in, out)
	// The metadata first, so that a line can be told from its begin.
	head, err := json.Marshal(object{"metadata": meta})
	if err != nil {
		return line // cannot be: all of it was JSON before
	}
	tail, err := json.Marshal(out)
	if err != nil {
		return line
	}
	return string(head[:len(head)-1]) + "," + string(tail[1:]) + "\n"
}

// event moves what is in an event to where the schema has it, and returns the metadata.
func (c Converter) event(in, out object) (meta object) {
	var k class
	in.take("ecs", "version")
	in.take("event", "module")
	in.take("event", "kind")
	set(out, "time", millis(in.take("@timestamp")))
	id, action := in.text("event", "id"), in.text("event", "action")
	capture := in.text("culprit", "capture", "id")
	device := object{"hostname": c.Host, "type_id": 0, "type": "Unknown", "os": object{"name": "Linux", "type_id": 200}}
	switch action {
	case event.ActionHit:
		k = c.hit(in, out)
	case event.ActionProof:
		k = c.proof(in, out, id)
	case event.ActionCapture:
		k, capture = c.capture(in, out, id, device), id
	case event.ActionTrace:
		k = c.trace(in, out)
	case event.ActionSnapshot:
		k = c.snapshot(in, out)
	case event.ActionLoss:
		k = c.loss(in, out)
	default:
		k = other
	}
	k.describe(out)
	out["device"] = device
	if _, ok := out["time"]; !ok {
		out["time"] = 0
	}
	if seen := observables(out); len(seen) > 0 {
		out["observables"] = seen
	}
	meta = object{
		"version": Version, "product": object{"name": "culprit", "vendor_name": "culprit", "version": c.Version},
		"profiles": k.profiles,
	}
	set(meta, "uid", id)
	set(meta, "event_code", action)
	set(meta, "correlation_uid", capture)
	set(meta, "log_name", in.take("event", "dataset"))
	set(meta, "sequence", in.take("event", "sequence"))
	if len(in) > 0 {
		out["unmapped"] = in
	}
	return meta
}

// describe writes the identifiers of a class, with their captions.
func (k class) describe(out object) {
	out["class_uid"], out["class_name"] = k.uid, k.name
	out["category_uid"], out["category_name"] = k.category, k.categoryName
	out["activity_id"], out["activity_name"] = k.activity, k.doing
	out["type_uid"], out["type_name"] = k.uid*100+k.activity, k.name+": "+k.doing
	out["severity_id"], out["severity"] = k.severity, severities[k.severity]
}

// hit converts a hit.
func (c Converter) hit(in, out object) class {
	k := network
	asks := "sent a packet"
	if name := in.text("dns", "question", "name"); name != "" {
		k = dns
		query := object{"hostname": name}
		kind := in.text("dns", "question", "type")
		set(query, "type", kind)
		set(query, "class", in.take("dns", "question", "class"))
		if id, ok := number(in.take("dns", "id")); ok {
			query["packet_uid"] = id
		}
		out["query"] = query
		out["query_time"] = out["time"]
		asks = "asked for " + name + " " + kind
	}
	source, destination := endpoint(in, "source"), endpoint(in, "destination")
	set(out, "src_endpoint", source)
	set(out, "dst_endpoint", destination)
	if source == nil && destination == nil {
		out["src_endpoint"] = object{"hostname": c.Host} // one of both is required
	}
	out["connection_info"] = connection(in, destination)
	if n := in.take("network", "bytes"); n != nil {
		out["traffic"] = object{"bytes": n}
	}
	set(out, "count", in.take("culprit", "count"))
	out["is_alert"] = true
	out["action_id"], out["action"] = 3, "Observed"
	out["disposition_id"], out["disposition"] = 19, "Alert"
	out["status_id"], out["status"] = 0, "Unknown" // what came of the packet
	rule := in.text("rule", "name")
	if rule != "" {
		out["firewall_rule"] = object{"name": rule}
	}
	if name := in.text("threat", "indicator", "name"); name != "" {
		intel := object{"value": name, "type_id": 2, "type": "Domain"}
		set(intel, "comment", in.take("threat", "indicator", "description"))
		set(intel, "vendor_name", in.take("threat", "feed", "name"))
		if reference := in.text("threat", "indicator", "reference"); reference != "" {
			intel["references"] = []any{reference}
		}
		in.take("threat", "indicator", "type")
		out["osint"] = []any{intel}
		k.profiles = append([]string{"osint"}, k.profiles...)
	}
	who := actor(in, out, &k)
	out["message"] = fmt.Sprintf("%s %s: rule %s", who, asks, rule)
	return k
}

// proof converts a proof: the finding which process sent the packet of a hit.
func (c Converter) proof(in, out object, id string) class {
	k := finding
	rule := in.text("rule", "name")
	who := actor(in, out, &k)
	hit := in.text("culprit", "hit", "id")
	what := fmt.Sprintf("%s sent the packet of rule %s", who, rule)
	about := object{"uid": id, "title": what, "analytic": analytic(rule)}
	set(about, "created_time", out["time"])
	if hit != "" {
		about["related_events"] = []any{object{"uid": hit, "type": "hit"}}
	}
	out["finding_info"] = about
	out["message"] = what
	out["is_alert"] = true
	out["confidence_id"], out["confidence"] = 3, "High"
	if probable, _ := in.take("culprit", "probable").(bool); probable {
		out["confidence_id"], out["confidence"] = 2, "Medium"
	}
	out["status_id"], out["status"] = 1, "New"
	line := object{}
	for _, key := range []string{"syscall", "line", "offset", "tid", "parts", "kernel"} {
		set(line, key, in.take("culprit", key))
	}
	one := object{"data": line}
	set(one, "file", file(in))
	set(one, "uid", in.take("culprit", "trace", "id"))
	out["evidences"] = []any{one}
	return k
}

// capture converts a capture. Its finding is created when it starts, and updated from then on.
func (c Converter) capture(in, out object, id string, device object) class {
	k := finding
	k.severity = 1
	if state := at(in, "culprit", "state"); state != event.StateRunning {
		k.activity, k.doing = 2, "Update"
	}
	rule := in.text("rule", "name")
	who := actor(in, out, &k)
	what := fmt.Sprintf("culprit traces the processes of %s for rule %s", who, rule)
	about := object{"uid": id, "title": what, "analytic": analytic(rule)}
	set(about, "created_time", out["time"])
	if hit := in.text("culprit", "first_hit", "id"); hit != "" {
		about["related_events"] = []any{object{"uid": hit, "type": "hit"}}
	}
	set(device, "hostname", in.take("host", "hostname"))
	if kernel := in.take("host", "os", "kernel"); kernel != nil {
		device["os"].(object)["kernel_release"] = kernel
	}
	out["finding_info"] = about
	out["message"] = what
	out["is_alert"] = false // the hit is
	out["status_id"], out["status"] = 1, "New"
	set(out, "start_time", millis(in.take("event", "start")))
	set(out, "end_time", millis(in.take("event", "end")))
	return k
}

// trace converts a trace: the file with what a process did.
func (c Converter) trace(in, out object) class {
	k := info
	who := actor(in, out, &k)
	of := file(in)
	if of == nil {
		return k.other(out)
	}
	out["query_evidence"] = object{"query_type_id": 2, "query_type": "File", "file": of}
	out["query_result_id"], out["query_result"] = 1, "Exists"
	out["message"] = "trace of " + who
	return k
}

// snapshot converts a snapshot: what a process was.
func (c Converter) snapshot(in, out object) class {
	k := info
	who := actor(in, out, &k)
	from, _ := out["actor"].(object)
	process, ok := from["process"].(object)
	if !ok {
		return k.other(out)
	}
	delete(from, "process")
	if len(from) == 0 {
		delete(out, "actor")
	}
	out["query_evidence"] = object{"query_type_id": 10, "query_type": "Process", "process": process}
	out["query_result_id"], out["query_result"] = 1, "Exists"
	out["message"] = "snapshot of " + who
	return k
}

// loss converts a loss.
func (c Converter) loss(in, out object) class {
	var d event.LossDetail
	if b, err := json.Marshal(at(in, "culprit")); err == nil {
		_ = json.Unmarshal(b, &d) // what cannot be read stays unmapped
	}
	out["message"] = text.Escape(words.Lost(d))
	set(out, "status_code", in.take("culprit", "code"))
	set(out, "status_detail", in.take("culprit", "detail"))
	out["status_id"], out["status"] = 2, "Failure"
	set(out, "count", in.take("culprit", "count"))
	return failure
}

// other is for an event that has not what its class requires.
func (k class) other(out object) class {
	delete(out, "message")
	profiles := k.profiles
	k = other
	k.profiles = profiles
	return k
}

// analytic is the rule that something was found by.
func analytic(rule string) object {
	if rule == "" {
		rule = "culprit"
	}
	return object{"name": rule, "type_id": 1, "type": "Rule"}
}

// millis turns a time into milliseconds since 1970, or nil.
func millis(v any) any {
	s, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil
	}
	return t.UnixMilli()
}
