package format

// local are names that hosts files have for the machine itself (Debian's, Red Hat's, macOS', published lists').
var local = map[string]bool{
	"localhost": true, "localhost.localdomain": true, "localhost4": true, "localhost4.localdomain4": true,
	"localhost6": true, "localhost6.localdomain6": true, "localdomain": true, "local": true, "broadcasthost": true,
	"ip6-localhost": true, "ip6-loopback": true, "ip6-localnet": true, "ip6-mcastprefix": true,
	"ip6-allnodes": true, "ip6-allrouters": true, "ip6-allhosts": true, "0.0.0.0": true,
}

// hosts reads a line of hosts(5): an address and names, each for itself alone.
func (r *reader) hosts(line string) {
	line, note := comment(line, "#")
	address, names := field(line)
	switch {
	case address == "" || address[0] == '!':
		return
	case names == "" || !isAddress(address):
		r.reject(Syntax, line)
		return
	}
	for names != "" {
		var name string
		name, names = field(names)
		if local[name] {
			r.reject(Local, name)
		} else {
			r.addFull(r.line, name, Self, note)
		}
	}
}
