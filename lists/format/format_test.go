package format

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/miekg/dns"
)

// read reads a list and writes down what was understood: an entry a line, and behind them the rejects.
func read(t *testing.T, list string, f Format) (got []string, stats Stats) {
	t.Helper()
	stats, err := Read(strings.NewReader(list), f, func(e Entry) error {
		got = append(got, show(e))
		return nil
	})
	if err != nil && !errors.Is(err, ErrNothing) {
		got = append(got, "error: "+err.Error())
	}
	var rejected []string
	for reason, n := range stats.Rejected {
		rejected = append(rejected, fmt.Sprintf("- %d %s", n, reason))
	}
	slices.Sort(rejected)
	return append(got, rejected...), stats
}

// show writes an entry as "LINE [@@][*]NAME # COMMENT": "=" is the name alone, "*." what is below, "." both.
func show(e Entry) string {
	s := fmt.Sprintf("%d %s%s%s", e.Line, map[bool]string{true: "@@"}[e.Except], map[Kind]string{Self: "=", Below: "*.", Whole: "."}[e.Kind], e.Name)
	if e.Comment != "" {
		s += " # " + e.Comment
	}
	return s
}

type test struct {
	name, list string
	want       []string
}

func run(t *testing.T, f Format, tests []test) {
	t.Helper()
	t.Parallel()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := read(t, tt.list, f)
			slices.SortStableFunc(tt.want, func(a, b string) int {
				if !strings.HasPrefix(a, "- ") || !strings.HasPrefix(b, "- ") {
					return 0
				}
				return strings.Compare(a, b)
			})
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDomains(t *testing.T) {
	long := strings.Repeat("x", 64)
	run(t, Domains, []test{
		{"names", "evil.example\nEVIL2.Example.\n", []string{"1 .evil.example", "2 .evil2.example"}},
		{"wildcards", "*.a.example\n.b.example\n+.c.example\n=d.example", []string{"1 .a.example", "2 .b.example", "3 .c.example", "4 =d.example"}},
		{
			"comments", "# all\n; of\n! them\n// are\n\nevil.example # C2, 2026-11-20\nb.example;c\nc.example\t; x\nd.example // y\n",
			[]string{"6 .evil.example # C2, 2026-11-20", "8 .c.example # x", "9 .d.example", "- 1 " + string(Name)},
		},
		{"line ends and marks", "\ufeffevil.example\r\n  b.example\t\r\nc.example", []string{"1 .evil.example", "2 .b.example", "3 .c.example"}},
		{"IDNA", "bücher.example\nxn--bcher-kva.example\n_dmarc.x.example", []string{"1 .xn--bcher-kva.example", "2 .xn--bcher-kva.example", "3 ._dmarc.x.example"}},
		{
			"what is no name", "evil.example/path\nhttp://evil.example/\n192.0.2.1\n2001:db8::1\n1.2.3\nevil.example:80\n<html>\na b\nlocalhost\n*\n.\na..b\n*.x.*.y\n" + long + ".example\nok.example",
			[]string{
				"15 .ok.example", "- 1 " + string(Wildcard), "- 1 " + string(Syntax), "- 1 " + string(Single), "- 2 " + string(Everything), "- 3 " + string(Path), "- 3 " + string(Name), "- 3 " + string(Address),
			},
		},
		{"a top level, if it is meant", "zip\n*.zip\n", []string{"2 .zip", "- 1 " + string(Single)}},
		{"nothing", "", nil},
	})
}

func TestHosts(t *testing.T) {
	run(t, Hosts, []test{
		{
			"lines", "0.0.0.0 evil.example\n127.0.0.1\ta.example b.example # two\n::1 c.example\nfe80::1%lo0 localhost\n",
			[]string{"1 =evil.example", "2 =a.example # two", "2 =b.example # two", "3 =c.example", "- 1 " + string(Local)},
		},
		{
			"what every file has", "127.0.0.1 localhost localhost.localdomain\n::1 ip6-localhost\n0.0.0.0 0.0.0.0\n255.255.255.255 broadcasthost",
			[]string{"- 5 " + string(Local)},
		},
		{
			"what is no line", "evil.example\n0.0.0.0\n0.0.0.0 myhost\n0.0.0.0 a.example/x\n# c\n!c\n0.0.0.0 #x\n",
			[]string{"- 1 " + string(Single), "- 1 " + string(Path), "- 3 " + string(Syntax)},
		},
	})
}

func TestAdblock(t *testing.T) {
	run(t, Adblock, []test{
		{
			"rules", "[Adblock Plus 2.0]\n! Title\n||evil.example^\n@@||good.evil.example^\n||a.example^$important\n||*.b.example^\n|c.example^\nd.example\n||e.example^|\n@@|f.example^$important\n||G.example^$all # C2",
			[]string{
				"3 .evil.example", "4 @@.good.evil.example", "5 .a.example", "6 *.b.example", "7 =c.example", "8 =d.example", "9 .e.example", "10 @@=f.example", "11 .g.example # C2",
			},
		},
		{"lines of other formats", "# a comment\n#\n0.0.0.0 a.example b.example\n|| \n", []string{"3 =a.example", "3 =b.example", "- 1 " + string(Syntax)}},
		{
			"no domain", "example.com##.ad\n##.ad\nx.example#@#.ad\nx.example#$#body{}\nx.example$$script[a]\n/ads[0-9]+/\n/banner/a\n/x\n||a.example/path\n||a.example:80^\n||a.example\n||ads*.example^\n||a.example^$third-party\n@@||a.example^$client=x\na.example^\n-ad-\n||192.0.2.1^\n||^\n",
			[]string{
				"- 1 " + string(Wildcard), "- 1 " + string(Name), "- 1 " + string(Address), "- 2 " + string(Modifier), "- 2 " + string(Regexp), "- 4 " + string(Path), "- 2 " + string(Syntax), "- 5 " + string(Cosmetic),
			},
		},
	})
}

func TestDnsmasq(t *testing.T) {
	run(t, Dnsmasq, []test{
		{
			"options", "# c\naddress=/evil.example/0.0.0.0\naddress=/a.example/b.example/# # two\nserver=/c.example/\nlocal=/d.example/\naddress=/e.example/\naddress=/e.example/::\naddress = /f.example/\n",
			[]string{"2 .evil.example", "3 .a.example # two", "3 .b.example # two", "4 .c.example", "5 .d.example", "6 .e.example", "7 .e.example", "8 .f.example"},
		},
		{"exceptions and wildcards", "server=/good.example/#\naddress=/*.x.example/#\naddress=/.y.example/#\n", []string{"1 @@.good.example", "2 *.x.example", "3 .y.example"}},
		{
			"no domain", "port=53\nno-resolv\nserver=192.0.2.1\nserver=/corp.example/192.0.2.1\naddress=/#/0.0.0.0\naddress=//0.0.0.0\naddress=/*x.example/#\naddress=/x",
			[]string{"- 1 " + string(Wildcard), "- 1 " + string(Forward), "- 1 " + string(Everything), "- 1 " + string(Name), "- 4 " + string(Directive)},
		},
	})
}

func TestRPZ(t *testing.T) {
	head := "$TTL 30\n@ SOA rpz.example. h.example. 1 2 3 4 5\n NS localhost.\n"
	run(t, RPZ, []test{
		{
			"published: no origin", head + "; c\nevil.example CNAME . ; C2, 2026-11-20\n*.evil.example CNAME .\nb.example 60 IN CNAME *.\n*.c.example IN CNAME rpz-drop.\n",
			[]string{"5 .evil.example # C2, 2026-11-20", "7 =b.example", "8 *.c.example"},
		},
		{
			"passthru, new and old", head + "a.example CNAME rpz-passthru.\n*.a.example CNAME rpz-passthru.\nb.example CNAME b.example.\nc.example CNAME garden.example.\n",
			[]string{"4 @@.a.example", "6 @@=b.example", "7 =c.example"},
		},
		{
			"below an apex", "$ORIGIN rpz.example.\n" + head + "evil.example CNAME .\n*.abs.example.RPZ.example. CNAME .\n$ORIGIN com.rpz.example.\nevil CNAME .\n@ CNAME .\noutside.example. CNAME .\n",
			[]string{"5 =evil.example", "6 *.abs.example", "8 =evil.com", "9 =com", "- 1 " + string(Outside)},
		},
		{"an apex by the SOA", "rpz.example. 1 IN SOA a. b. 1 2 3 4 5\nevil.example.rpz.example. CNAME .\nb.example CNAME .\n", []string{"2 =evil.example", "3 =b.example"}},
		{
			"parentheses", "$ORIGIN rpz.\n@ IN SOA a. b. (\n 1 ; serial (\n 2 3\n 4 5 )\nevil.example CNAME (\n . ) ; in two lines\nb.example CNAME .",
			[]string{"6 =evil.example # in two lines", "8 =b.example"},
		},
		{"addresses and the same owner", head + "a.example A 192.0.2.1\n AAAA 2001:db8::1\n TXT \"a ; b\" ; c\n\tCNAME .\nB.Example. TXT \"x (\"\n", []string{"4 =a.example", "8 =b.example"}},
		{
			"triggers", head + "32.1.2.0.192.rpz-ip CNAME .\n24.0.2.0.192.rpz-client-ip CNAME .\nns.example.rpz-nsdname CNAME .\n32.1.2.0.192.rpz-nsip CNAME .\nok.example CNAME .",
			[]string{"8 =ok.example", "- 4 " + string(Trigger)},
		},
		{"escapes", head + "a\\.b.example CNAME .\na\\098c.example CNAME .\n\\*.x.example CNAME .\n", []string{"5 =abc.example", "- 2 " + string(Name)}},
		{
			"broken lines cost themselves", head + "what is this\nevil.example CNAME\n* CNAME .\n$INCLUDE /etc/passwd\n$GENERATE 1-9 a$ CNAME .\nx.example NS a.\nx.example CNAME a b\nok.example CNAME .\nb.example CNAME (",
			[]string{"11 =ok.example", "- 1 " + string(Everything), "- 2 " + string(Directive), "- 5 " + string(Syntax)},
		},
	})
}

func TestCSV(t *testing.T) {
	run(t, CSV, []test{
		{"a heading", "id,Domain,Comment\n1,evil.example,\"C2, 2026\"\n2,b.example,\n", []string{"2 .evil.example # C2, 2026", "3 .b.example"}},
		{
			"ThreatFox", "# x, y\n# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"threat_type\"\n\"2026-11-20\", \"1\", \"evil.example\", \"domain\", \"botnet_cc\"\n\"2026-11-20\", \"2\", \"192.0.2.1:80\", \"ip:port\", \"x\"\n",
			[]string{"3 .evil.example # botnet_cc", "- 1 " + string(Type)},
		},
		{"MISP", "uuid,event_id,category,type,value,comment,to_ids\nu,1,N,hostname,a.example,\"two\nlines\",1\nu,1,N,domain|ip,b.example|192.0.2.1,,1\n", []string{"2 =a.example # two\nlines", "4 .b.example"}},
		{"no heading", "1,evil.example\n2,b.example\n", []string{"1 .evil.example", "2 .b.example"}},
		{"no heading that says which", "a.example,b.example\n", []string{"error: line 1: no heading says which column holds the domains: name it domain"}},
		{"semicolons and what is no name", "host;type\nhttp://evil.example/;host\nx;host\na.example;HOST\n;host\n\n", []string{"4 =a.example", "- 1 " + string(Name), "- 1 " + string(Single), "- 1 " + string(Path)}},
		{"a quotation mark too few", "domain,x\na.example,\"" + strings.Repeat("b.example,\n", 10000), []string{"error: what begins at or behind line 2 has more than 65536 bytes: is a quotation mark missing?"}},
	})
}

func TestSTIX(t *testing.T) {
	bundle := func(objects string) string { return "{\"type\": \"bundle\",\n\"objects\": [\n" + objects + "\n]}" }
	indicator := func(pattern string) string {
		return bundle(fmt.Sprintf(`{"type": "indicator", "name": "C2", "pattern_type": "stix", "pattern": %q}`, pattern))
	}
	run(t, STIX, []test{
		{"indicator", indicator("[domain-name:value = 'Evil.example']"), []string{"3 =evil.example # C2"}},
		{
			"several", indicator("([domain-name:value='a.example' OR domain-name:value IN ('b.example', 'c.example')]) OR [ipv4-addr:value = '192.0.2.1']"),
			[]string{"3 =a.example # C2", "3 =b.example # C2", "3 =c.example # C2"},
		},
		{"below", indicator("[domain-name:value LIKE '%.evil.example']"), []string{"3 *.evil.example # C2"}},
		{"more than a domain", indicator("[domain-name:value = 'a.example' AND file:size > 5]"), []string{"- 1 " + string(Expression)}},
		{"sequences", indicator("[file:size > 5] FOLLOWEDBY [domain-name:value = 'a.example']"), []string{"- 1 " + string(Expression)}},
		{"likes", indicator("[domain-name:value LIKE 'evil%']"), []string{"- 1 " + string(Expression)}},
		{"not", indicator("[domain-name:value != 'evil']"), []string{"- 1 " + string(Expression)}},
		{"open string", indicator("[domain-name:value = 'evil"), []string{"- 1 " + string(Expression)}},
		{"other types", indicator("[file:hashes.'SHA-256' = 'aa' AND file:size = 5]"), []string{"- 1 " + string(Type)}},
		{
			"objects", bundle("{\"type\": \"domain-name\",\n \"value\": \"a.example\"},\n{\"type\": \"malware\"},\n{\"type\": \"indicator\", \"revoked\": true},\n{\"type\": 7},\n{\"type\": \"indicator\", \"pattern_type\": \"snort\"}"),
			[]string{"3 =a.example", "- 1 " + string(Syntax), "- 1 " + string(Withdrawn), "- 2 " + string(Type)},
		},
		{"broken", bundle("{"), []string{"error: at or behind line 3: invalid character ']' looking for beginning of object key string"}},
		{"cut", "{\"objects\": [\n{\"type\": \"domain-name\", \"value\": \"a.example\"},\n{\"ty", []string{"2 =a.example", "error: at or behind line 2: unexpected EOF"}},
		{"deep", strings.Repeat("[", 1000), []string{"error: at or behind line 1: more than 64 objects and arrays in each other"}},
	})
}

func TestMISP(t *testing.T) {
	run(t, MISP, []test{
		{
			"event", `{"response": [{"Event": {"info": "x", "Attribute": [
			{"type": "domain", "value": "evil.example", "comment": "C2", "to_ids": true},
			{"type": "ip-dst", "value": "192.0.2.1", "to_ids": true},
			{"type": "domain|ip", "value": "b.example|192.0.2.1"},
			{"type": "domain", "value": "seen.example", "to_ids": false},
			{"type": "domain", "value": "old.example", "deleted": true}],
			"Object": [{"name": "dns", "Attribute": [{"type": "hostname", "value": "c.example", "Tag": [{"name": "x"}]}]}]}}]}`,
			[]string{"2 .evil.example # C2", "4 .b.example", "7 =c.example", "- 1 " + string(Type), "- 2 " + string(Withdrawn)},
		},
	})
}

// The first lines tell each format.
func TestDetect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, list string
		want       Format
	}{
		{"domains", "# Title: x\n#\nevil.example\nb.example # 127.0.0.1 is not in it, is it\n", Domains},
		{"wildcards", "*.evil.example\n*.b.example\n", Domains},
		{"domains with semicolons", "evil.example ; C2, 2026\n", Domains},
		{"hosts", "# h\n127.0.0.1 localhost\n::1 localhost\n0.0.0.0 evil.example\n", Hosts},
		{"RPZ", "$TTL 30\n@ SOA a. b. 1 2 3 4 5\n NS localhost.\n;\nevil.example CNAME .\n", RPZ},
		{"RPZ without a head", "evil.example CNAME . ; x\n*.evil.example CNAME .\n", RPZ},
		{"adblock", "! Title\n||evil.example^\n@@||b.example^\n", Adblock},
		{"adblock of a browser", "[Adblock Plus 2.0]\n-ad-banner.\n&ad=\n/ads/*\n##.ad\n", Adblock},
		{"dnsmasq", "# x\naddress=/evil.example/#\nlocal=/b.example/\n", Dnsmasq},
		{"csv", "id,domain\n1,evil.example\n", CSV},
		{"ThreatFox", "################\n# x\n# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\"\n\"2026-11-20\", \"1\", \"192.0.2.1:80\", \"ip:port\"\n", CSV},
		{"ranks", "1,evil.example\n2,b.example\n", CSV},
		{"STIX", "{\n \"type\": \"bundle\", \"objects\": [] }", STIX},
		{"MISP in an array", "[ {\"Event\": {}} ]", MISP},
		{"MISP", "{\"response\": {\"Attribute\": [] } }", MISP},
		{"comments only", "# nothing today\n", Domains},
		{"nothing", "", Domains},
		{"HTML", "<!DOCTYPE html>\n<p>evil.example</p>", ""},
		{"prose", "This is not a list.\nIt has no domain.\n", ""},
		{"other JSON", "{\"a\": 1}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := detect([]byte(tt.list))
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A list of one format that is read as another says that nothing was found in it.
func TestNothing(t *testing.T) {
	t.Parallel()
	_, err := Read(strings.NewReader("<html>\n<body>\n"), Domains, nil)
	if !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), "line 1: not a domain name: <html>") {
		t.Error(err)
	}
	stats, err := Read(strings.NewReader("# none\n"), Auto, nil)
	if err != nil || stats.Format != Domains || !stats.Detected || stats.Lines != 1 {
		t.Error(stats, err)
	}
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	const list = "\ufeffevil.example # C2\nb.example\n"
	var zipped, zstandard bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err1 := z.Write([]byte(list))
	if err := errors.Join(err1, z.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := zstd.NewWriter(&zstandard)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 = s.Write([]byte(list))
	if err := errors.Join(err1, s.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{"1 .evil.example # C2", "2 .b.example"}
	for name, packed := range map[string][]byte{"gzip": zipped.Bytes(), "zstd": zstandard.Bytes()} {
		if got, _ := read(t, string(packed), Auto); cmp.Diff(want, got) != "" {
			t.Error(name, got)
		}
		if _, err := Read(bytes.NewReader(packed[:len(packed)-5]), Domains, func(Entry) error { return nil }); err == nil {
			t.Errorf("%s: a file that is cut off is read without an error", name)
		}
	}
	if _, err := Read(strings.NewReader("MZ\x00\x01"), Auto, nil); !errors.Is(err, errBinary) {
		t.Error(err)
	}
}

// What is wrong with the file, or with who takes the entries, ends the reading.
func TestErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken disk")
	if _, err := Read(io.MultiReader(strings.NewReader("a.example\n"), iotest.ErrReader(broken)), Domains, func(Entry) error { return nil }); !errors.Is(err, broken) {
		t.Error(err)
	}
	for _, f := range All() {
		n := 0
		_, err := Read(strings.NewReader(sample(f, 100)), f, func(Entry) error { n++; return broken })
		if err != broken || n != 1 {
			t.Errorf("%s: %v after %d entries", f, err, n)
		}
	}
}

// Long lines and many broken ones take no memory.
func TestBounds(t *testing.T) {
	t.Parallel()
	list := "a.example # x" + strings.Repeat("ü", 1000) + "\n" + strings.Repeat("y", 10*maxLine) + "\n" + strings.Repeat("no name here\n", 100) + strings.Repeat("z", 2*maxLine)
	var comment string
	stats, err := Read(strings.NewReader(list), Domains, func(e Entry) error { comment = e.Comment; return nil })
	if err != nil || stats.Rejected[Long] != 2 || stats.Rejected[Syntax] != 100 || len(stats.First) != maxFirst || stats.Lines != 103 || stats.Rejects() != 102 {
		t.Error(stats, err)
	}
	if len(comment) != maxComment-1 || !utf8.ValidString(comment) {
		t.Errorf("a comment of %d bytes: %q", len(comment), comment)
	}
	if len(stats.First[0].Text) > maxText {
		t.Error(stats.First[0])
	}
	endless := &bounded{Reader: strings.NewReader(strings.Repeat("x", 1000)), left: 999}
	if _, err := io.Copy(io.Discard, endless); err == nil {
		t.Error("what is unpacked has no bound")
	}
}

// sample is a list of n names, each of which the format reads as one entry; RPZ has two lines for each.
func sample(f Format, n int) string {
	var b strings.Builder
	switch f {
	case RPZ:
		b.WriteString("$TTL 30\n@ SOA a. b. 1 2 3 4 5\n NS localhost.\n")
	case CSV:
		b.WriteString("id,domain,comment\n")
	case STIX:
		b.WriteString(`{"type": "bundle", "objects": [`)
	case MISP:
		b.WriteString(`{"response": {"Attribute": [`)
	}
	between := ""
	for i := range n {
		name := fmt.Sprintf("host%d.evil%d.example", i%7, i)
		switch f {
		case Domains:
			fmt.Fprintf(&b, "%s # C2, 2026-11-20\n", name)
		case Hosts:
			fmt.Fprintf(&b, "0.0.0.0 %s\n", name)
		case RPZ:
			fmt.Fprintf(&b, "%s CNAME .\n*.%s CNAME .\n", name, name)
		case Adblock:
			fmt.Fprintf(&b, "||%s^\n", name)
		case Dnsmasq:
			fmt.Fprintf(&b, "address=/%s/#\n", name)
		case CSV:
			fmt.Fprintf(&b, "%d,%s,\"C2, 2026\"\n", i, name)
		case STIX:
			fmt.Fprintf(&b, "%s\n"+`{"type": "indicator", "pattern_type": "stix", "pattern": "[domain-name:value = '%s']"}`, between, name)
		case MISP:
			fmt.Fprintf(&b, "%s\n"+`{"type": "domain", "value": "%s", "to_ids": true}`, between, name)
		}
		between = ","
	}
	switch f {
	case STIX:
		b.WriteString("]}")
	case MISP:
		b.WriteString("]}}")
	}
	return b.String()
}

// Every format gives the same names, and is found out.
func TestSamples(t *testing.T) {
	t.Parallel()
	for _, f := range All() {
		n, list := 0, sample(f, 5000)
		lines := strings.Count(list, "\n")
		if !strings.HasSuffix(list, "\n") {
			lines++
		}
		stats, err := Read(strings.NewReader(list), Auto, func(e Entry) error {
			if want := fmt.Sprintf("host%d.evil%d.example", n%7, n); e.Name != want || e.Except {
				t.Fatalf("%s: entry %+v, want %s", f, e, want)
			}
			n++
			return nil
		})
		if err != nil || n != 5000 || stats.Entries != n || stats.Format != f || stats.Rejects() != 0 || stats.Lines != lines {
			t.Errorf("%s: %d entries, %+v, %v", f, n, stats, err)
		}
	}
}

// BenchmarkRead reads lists of a million names. "x-lines" is how much longer that takes than to split the text into
// lines, and "x-miekg" how much longer miekg/dns takes for it.
func BenchmarkRead(b *testing.B) {
	const n = 1_000_000
	seconds := func(do func()) float64 { start := time.Now(); do(); return time.Since(start).Seconds() }
	for _, f := range All() {
		b.Run(string(f), func(b *testing.B) {
			list := sample(f, n)
			lines := seconds(func() {
				for s := bufio.NewScanner(strings.NewReader(list)); s.Scan(); {
					_ = s.Text()
				}
			})
			miekg := 0.0
			if f == RPZ {
				miekg = seconds(func() {
					for z := dns.NewZoneParser(strings.NewReader(list), ".", ""); ; {
						if _, ok := z.Next(); !ok {
							break
						}
					}
				})
			}
			took := 0.0
			b.SetBytes(int64(len(list)))
			b.ReportAllocs()
			for b.Loop() {
				took += seconds(func() {
					stats, err := Read(strings.NewReader(list), f, func(Entry) error { return nil })
					if err != nil || stats.Entries != n {
						b.Fatal(stats, err)
					}
				})
			}
			took /= float64(b.N)
			b.ReportMetric(took/lines, "x-lines")
			if f == RPZ {
				b.ReportMetric(miekg/took, "x-miekg")
			}
		})
	}
}

// docs/lists.md explains each format and each reason.
func TestPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/lists.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `\`, "")
	for _, f := range All() {
		if !strings.Contains(page, fmt.Sprintf("\n| `%s` | ", f)) {
			t.Errorf("the page has no row for %s", f)
		}
	}
	source, err := os.ReadFile("reason.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`Reason = "(.*)"`).FindAllSubmatch(source, -1)
	if len(reasons) < 15 {
		t.Errorf("only %d reasons were found", len(reasons))
	}
	for _, reason := range reasons {
		if !strings.Contains(page, string(reason[1])) {
			t.Errorf("the page does not explain: %s", reason[1])
		}
	}
}
