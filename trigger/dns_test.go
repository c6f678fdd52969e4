package trigger

import (
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestQuestions(t *testing.T) {
	t.Parallel()
	a, aaaa := query(7, xBadzone, 1), query(8, xBadzone, 28)
	length := func(m []byte) []byte { return append([]byte{byte(len(m) >> 8), byte(len(m))}, m...) }
	two := query(9, xBadzone, 1)
	two[5] = 2
	two = append(two, 0xc0, 12, 0, 16, 0, 1) // the second name points to the first
	loop := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0xc0, 12, 0, 1, 0, 1)
	unclosed := query(1, strings.Repeat("\x3f"+strings.Repeat("a", 63), 4), 1)
	for _, tt := range []struct {
		name, transport string
		in              []byte
		want            string
	}{
		{"udp", "udp", a, "7 x.badzone.test A IN"},
		{"tcp", "tcp", length(a), "7 x.badzone.test A IN"},
		{"tcp, two messages", "tcp", append(length(a), length(aaaa)...), "7 x.badzone.test A IN, 8 x.badzone.test AAAA IN"},
		{"tcp, length sent before", "tcp", a, "7 x.badzone.test A IN"},
		{"tcp, the rest comes later", "tcp", append(length(a), length(aaaa)[:20]...), "7 x.badzone.test A IN"},
		{"two questions, compressed", "udp", two, "9 x.badzone.test A IN, 9 x.badzone.test TXT IN"},
		{"the root", "udp", query(1, "", 2), "1  NS IN"},
		{"a dot and a line end in a label", "udp", query(1, "\x03x.y\x02\n\\\x04test", 1), `1 x\046y.\010\092.test A IN`},
		{"a type without a name", "udp", query(1, "\x01x", 99), "1 x TYPE99 IN"},
		{"a pointer to itself", "udp", loop, ""},
		{"a name over 255 bytes", "udp", unclosed, ""},
		{"cut in the name", "udp", a[:15], ""},
		{"cut in the type", "udp", a[:len(a)-3], ""},
		{"text", "udp", []byte("GET /badzone HTTP/1.1\r\nHost: example.org\r\n\r\n"), ""},
		{"nothing", "tcp", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, q := range questions(tt.transport, tt.in) {
				got = append(got, strings.Join([]string{q.ID, q.Question.Name, q.Question.Type, q.Question.Class}, " "))
			}
			if s := strings.Join(got, ", "); s != tt.want {
				t.Errorf("got  %q\nwant %q", s, tt.want)
			}
		})
	}
}

// hostileQuestions are messages that could trip a decoder.
func hostileQuestions() [][]byte {
	otherClass := query(1, xBadzone, 1)
	otherClass[len(otherClass)-1] = 2
	// One question of each type and class that typeName and className know. Their names are
	// pointers to the first name.
	many := query(1, xBadzone, 1)
	for i, kind := range []uint16{35, 43, 48, 52, 64, 65, 99, 255, 257} {
		many = append(many, 0xc0, 12, byte(kind>>8), byte(kind), 0, []byte{1, 3, 4, 254, 255}[i%5])
		many[5]++
	}
	return [][]byte{
		many,
		otherClass,
		query(1, "\x03x.y\x02\n\\", 28), // a dot and a line end in labels
		query(1, "\x40x", 1),            // a label longer than 63 bytes
		query(1, strings.Repeat("\x3f"+strings.Repeat("a", 63), 4), 1), // a name over 255 bytes
		query(1, "\xc0\x0c", 1),          // a pointer to itself
		query(1, "\xc0\xff", 1),          // a pointer forward
		query(1, "\xc0", 1)[:13],         // a pointer that is cut
		query(1, xBadzone, 1)[:20],       // cut in the name
		query(1, xBadzone, 1)[:14],       // after a label
		query(1, xBadzone, 1)[:5],        // in the header
		[]byte("GET / HTTP/1.1\r\n\r\n"), // not DNS
	}
}

// We read what dnsmessage accepts as it does, apart from case and escapes.
func FuzzQuestions(f *testing.F) {
	f.Add(query(1, xBadzone, 1))
	for _, q := range hostileQuestions() {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours := questions("udp", b)
		var p dnsmessage.Parser
		if _, err := p.Start(b); err != nil {
			return
		}
		for i := range ours {
			theirs, err := p.Question()
			if err != nil {
				return
			}
			name := theirs.Name.String()
			if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
				return
			}
			if want := strings.TrimSuffix(strings.ToLower(name), "."); ours[i].Question.Name != want {
				t.Errorf("name %q, dnsmessage reads %q", ours[i].Question.Name, want)
			}
		}
	})
}
