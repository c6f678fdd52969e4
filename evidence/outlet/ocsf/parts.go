package ocsf

import (
	"net/netip"
	"path"
	"strings"

	"culprit/internal/text"
)

// endpoint converts the source or the destination of a packet, nil if there is none.
func endpoint(in object, key string) object {
	e := object{}
	set(e, "ip", in.take(key, "ip"))
	if len(e) == 0 {
		return nil
	}
	set(e, "port", in.take(key, "port"))
	return e
}

// connection converts how a packet travelled. It is outbound as seen from this machine.
func connection(in, destination object) object {
	info := object{"direction_id": 2, "direction": "Outbound"}
	if ip, _ := destination["ip"].(string); ip != "" {
		if a, err := netip.ParseAddr(ip); err == nil && a.IsLoopback() {
			info["direction_id"], info["direction"] = 4, "Local"
		}
	}
	switch transport := in.text("network", "transport"); transport {
	case "udp":
		info["protocol_name"], info["protocol_num"] = "udp", 17
	case "tcp":
		info["protocol_name"], info["protocol_num"] = "tcp", 6
	default:
		if n, ok := number(transport); ok {
			info["protocol_num"] = n
		}
	}
	switch in.text("network", "type") {
	case "ipv4":
		info["protocol_ver_id"], info["protocol_ver"] = 4, "IPv4"
	case "ipv6":
		info["protocol_ver_id"], info["protocol_ver"] = 6, "IPv6"
	}
	return info
}

// actor converts process and user, and names them for people.
func actor(in, out object, k *class) (who string) {
	a := object{}
	u := user(in, "user")
	set(a, "user", u)
	p := process(asObject(in["process"]))
	if p != nil {
		if c := container(in); c != nil {
			p["container"] = c
			k.profiles = append([]string{"container"}, k.profiles...)
		}
		a["process"] = p
	}
	if len(asObject(in["process"])) == 0 {
		delete(in, "process")
	}
	set(out, "actor", a)
	name, _ := u["name"].(string)
	if name == "" {
		name, _ = u["uid"].(string)
	}
	if name == "" {
		name = "somebody"
	}
	for _, key := range []string{"cmd_line", "name"} {
		if what, _ := p[key].(string); what != "" {
			const most = 200
			return text.Escape(text.Clip(what, most)) + " of " + text.Escape(name)
		}
	}
	return text.Escape(name)
}

// user converts a user, nil if there is none.
func user(in object, keys ...string) object {
	u := object{}
	set(u, "uid", in.take(append(keys, "id")...))
	set(u, "name", in.take(append(keys, "name")...))
	if group := in.text(append(keys, "group", "id")...); group != "" {
		u["groups"] = []any{object{"uid": group}}
	}
	if u["uid"] == nil && u["name"] == nil {
		return nil
	}
	return u
}

// process converts a process and its parents, nil if there is none.
func process(in object) object {
	p := object{}
	if in == nil {
		return nil
	}
	set(p, "pid", in.take("pid"))
	set(p, "uid", in.take("entity_id"))
	if len(p) == 0 {
		return nil
	}
	set(p, "name", in.take("name"))
	set(p, "cmd_line", in.take("command_line"))
	set(p, "working_directory", in.take("working_directory"))
	set(p, "created_time", millis(in.take("start")))
	of := fileAt(in.text("executable"))
	if of != nil {
		if sum := in.text("hash", "sha256"); sum != "" {
			of["hashes"] = []any{object{"algorithm_id": 3, "algorithm": "SHA-256", "value": sum}}
		}
		p["file"] = of
	}
	set(p, "user", user(in, "real_user"))
	if variables, ok := in["env_vars"].([]any); ok {
		in.take("env_vars")
		var all []any
		for _, v := range variables {
			s, _ := v.(string)
			name, value, _ := strings.Cut(s, "=")
			all = append(all, object{"name": name, "value": value})
		}
		p["environment_variables"] = all
	}
	if parent := process(asObject(in["parent"])); parent != nil {
		p["parent_process"] = parent
	}
	if len(asObject(in["parent"])) == 0 {
		delete(in, "parent")
	}
	return p
}

// fileAt describes the file with a path, nil if there is none.
func fileAt(name string) object {
	if name == "" {
		return nil
	}
	return object{"path": name, "name": path.Base(name), "type_id": 1, "type": "Regular File"}
}

// file converts the file of an event, nil if it has none.
func file(in object) object {
	f := fileAt(in.text("file", "path"))
	if f != nil {
		set(f, "size", in.take("file", "size"))
	}
	return f
}

// container converts the container of a process, nil if it is in none.
func container(in object) object {
	c := object{}
	set(c, "uid", in.take("container", "id"))
	set(c, "name", in.take("container", "name"))
	if len(c) == 0 {
		return nil
	}
	set(c, "runtime", in.take("container", "runtime"))
	if image := in.text("container", "image", "name"); image != "" {
		c["image"] = object{"uid": image, "name": image}
	}
	set(c, "orchestrator", in.take("orchestrator", "type"))
	return c
}

// observed says where values are that people search for, and their types in the schema.
var observed = []struct {
	kind int
	name string
}{
	{1, "query.hostname"},
	{2, "src_endpoint.ip"},
	{2, "dst_endpoint.ip"},
	{4, "actor.user.name"},
	{9, "actor.process.name"},
	{13, "actor.process.cmd_line"},
	{45, "actor.process.file.path"},
	{9, "query_evidence.process.name"},
	{13, "query_evidence.process.cmd_line"},
	{45, "query_evidence.file.path"},
}

var observedTypes = map[int]string{1: "Hostname", 2: "IP Address", 4: "User Name", 9: "Process Name", 13: "Process Command Line", 45: "File Path"}

// observables lists the values that people search for.
func observables(out object) (all []any) {
	for _, o := range observed {
		if v, _ := at(out, strings.Split(o.name, ".")...).(string); v != "" {
			all = append(all, object{"name": o.name, "type_id": o.kind, "type": observedTypes[o.kind], "value": v})
		}
	}
	return all
}
