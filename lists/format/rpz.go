package format

import (
	"io"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// A zone is a response policy zone being read (draft-vixie-dnsop-dns-rpz): the owner of each record below the apex is the
// name that it is about.
//
// Nearly all lines of published zones are "NAME CNAME TARGET ; comment", which simple reads. All others go through the
// parser of miekg/dns, record by record, so that a broken one costs nothing but itself.
//
// All names in it are absolute, and have no final dot: the root is "".
type zone struct {
	*reader
	origin   string // what names without a final dot are below
	apex     string // owner of the SOA record, or the first $ORIGIN
	directed bool   // the list says itself where its names are: by $ORIGIN
	owner    string // of the last record, if there was one: a line that begins with space is about the same
	owned    bool

	record strings.Builder // lines of a record with open parentheses
	start  int             // its first line
	depth  int             // parentheses open

	held Entry // not yet given: the next one may say the rest about the same name
}

func (r *reader) zone() error {
	z := &zone{reader: r}
	for r.err == nil {
		line, err := r.next()
		switch {
		case err == io.EOF:
			if z.depth > 0 {
				r.rejectAt(z.start, Syntax, z.record.String())
			}
			z.flush()
			return r.err
		case err == errLong:
			r.reject(Long, line)
		case err != nil:
			return err
		default:
			z.line(line)
		}
	}
	return r.err
}

func (z *zone) line(line string) {
	if z.depth == 0 {
		switch bare := trim(line); {
		case bare == "" || bare[0] == ';':
			return
		case bare[0] == '$':
			z.directive(bare)
			return
		case !strings.ContainsAny(bare, `"()\`):
			if z.simple(line) {
				return
			}
		}
		z.record.Reset()
		z.start = z.source.line
	}
	z.record.WriteString(line)
	z.record.WriteByte('\n')
	z.depth += parentheses(line)
	switch {
	case z.depth > 0 && z.record.Len() > maxLine:
		z.rejectAt(z.start, Long, z.record.String()[:maxText])
		z.depth = 0
	case z.depth <= 0:
		z.depth = 0
		z.parse(z.record.String())
	}
}

func (z *zone) directive(line string) {
	what, value := field(line)
	value, _ = field(value)
	switch strings.ToUpper(what) {
	case "$ORIGIN":
		z.origin = z.absolute(value)
		if !z.directed && z.apex == "" {
			z.apex = z.origin
		}
		z.directed = true
	case "$TTL":
	default:
		z.reject(Directive, line)
	}
}

func (z *zone) absolute(name string) string {
	switch {
	case name == "@":
		return z.origin
	case strings.HasSuffix(name, "."):
		return name[:len(name)-1]
	case z.origin == "":
		return name
	}
	return name + "." + z.origin
}

// simple reads a CNAME record that needs no parser. It returns false if the line is something else.
func (z *zone) simple(line string) bool {
	line, note, _ := strings.Cut(line, ";")
	owner, rest := field(line)
	switch {
	case owner != "":
		owner = z.absolute(owner)
	case !z.owned:
		return false
	default:
		owner = z.owner
	}
	for rest != "" {
		var word string
		word, rest = field(rest)
		switch {
		case strings.EqualFold(word, "IN"), word[0] >= '0' && word[0] <= '9': // class, TTL
		case strings.EqualFold(word, "CNAME"):
			target, more := field(rest)
			if target == "" || more != "" {
				return false
			}
			z.owner, z.owned = owner, true
			z.rule(z.source.line, owner, z.absolute(target), trim(note))
			return true
		default:
			return false
		}
	}
	return false
}

func (z *zone) parse(record string) {
	if z.owned && (record[0] == ' ' || record[0] == '\t') {
		record = z.owner + "." + record
	}
	parser := dns.NewZoneParser(strings.NewReader(record), z.origin+".", "")
	parser.SetDefaultTTL(0)
	parsed, ok := parser.Next()
	if !ok || parsed.Header().Name == "" || parsed.String() == parsed.Header().String() {
		z.rejectAt(z.start, Syntax, trim(record))
		return
	}
	owner, target := strings.TrimSuffix(parsed.Header().Name, "."), ""
	z.owner, z.owned = owner, true
	switch parsed := parsed.(type) {
	case *dns.SOA:
		z.apex = owner
		return
	case *dns.NS:
		if strings.EqualFold(owner, z.apex) {
			return
		}
		z.rejectAt(z.start, Syntax, trim(record)) // no policy has a delegation
		return
	case *dns.CNAME:
		target = strings.TrimSuffix(parsed.Target, ".")
	case *dns.RRSIG, *dns.NSEC, *dns.NSEC3, *dns.NSEC3PARAM, *dns.DNSKEY, *dns.ZONEMD:
		z.rejectAt(z.start, Directive, trim(record)) // about the zone itself
		return
	}
	z.rule(z.start, owner, target, trim(strings.TrimLeft(parser.Comment(), ";")))
}

// rule takes a record: every one is a policy, and only rpz-passthru allows what it is about. An older way to say that is a
// CNAME to the name itself.
func (z *zone) rule(line int, owner, target, note string) {
	name := strings.ToLower(owner)
	if z.apex != "" {
		apex := strings.ToLower(z.apex)
		below, found := strings.CutSuffix(name, "."+apex)
		if !found && (z.directed || name == apex) {
			z.rejectAt(line, Outside, owner)
			return
		}
		name = below
	}
	for _, trigger := range []string{".rpz-ip", ".rpz-client-ip", ".rpz-nsip", ".rpz-nsdname"} {
		if strings.HasSuffix(name, trigger) {
			z.rejectAt(line, Trigger, owner)
			return
		}
	}
	except := strings.EqualFold(target, "rpz-passthru") || strings.EqualFold(target, name) && name != ""
	kind := Self
	if bare, found := strings.CutPrefix(name, "*."); found {
		name, kind = bare, Below
	}
	ascii, reason := normalise(unescape(name))
	if reason != "" {
		z.rejectAt(line, reason, owner)
		return
	}
	z.hold(Entry{Name: ascii, Kind: kind, Except: except, Line: line, Comment: note})
}

// unescape replaces "\DDD" by the byte that it stands for, if entries can have it.
func unescape(name string) string {
	for i := 0; i+3 < len(name); i++ {
		if name[i] != '\\' {
			continue
		}
		n, err := strconv.ParseUint(name[i+1:i+4], 10, 8)
		if err == nil && n != '.' && n != '*' {
			name = name[:i] + string([]byte{byte(n)}) + name[i+4:]
		}
	}
	return name
}

// hold joins records about the same name: zones have two for each, "x" and "*.x", or several addresses.
func (z *zone) hold(e Entry) {
	if e.Name == z.held.Name && e.Except == z.held.Except {
		if e.Kind != z.held.Kind {
			z.held.Kind = Whole
		}
		return
	}
	z.flush()
	z.held = e
}

func (z *zone) flush() {
	if z.held.Name != "" {
		e := z.held
		z.give(e.Line, e.Name, e.Kind, e.Except, e.Comment)
	}
}

// parentheses returns how many more parentheses a line of a zone opens than it closes.
func parentheses(line string) (n int) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ';':
			return n
		case c == '(':
			n++
		case c == ')':
			n--
		}
	}
	return n
}
