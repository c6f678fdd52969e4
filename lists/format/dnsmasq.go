package format

import "strings"

// dnsmasq reads an option of dnsmasq(8). Names in it mean themselves and everything below.
func (r *reader) dnsmasq(line string) {
	line, note := comment(line, "#")
	if line == "" {
		return
	}
	option, value, _ := strings.Cut(line, "=")
	option, value = trim(option), trim(value)
	if option != "address" && option != "server" && option != "local" {
		r.reject(Directive, line)
		return
	}
	names, found := strings.CutPrefix(value, "/")
	end := strings.LastIndexByte(names, '/')
	if !found || end < 0 {
		r.reject(Directive, line) // such as server=192.0.2.1
		return
	}
	names, to := names[:end], names[end+1:]
	except := false
	if option == "server" && to != "" {
		// "#" asks the usual servers for the name, whatever is said of what is above it.
		if except = to == "#"; !except {
			r.reject(Forward, line)
			return
		}
	}
	for name := range strings.SplitSeq(names, "/") {
		bare, below := strings.CutPrefix(name, "*.")
		switch {
		case name == "#":
			r.reject(Everything, line)
		case below:
			r.add(bare, Below, except, note)
		default:
			r.add(strings.TrimPrefix(name, "."), Whole, except, note)
		}
	}
}
