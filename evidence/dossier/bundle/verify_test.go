package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// Every way to tamper with a bundle is seen, all of them at once.
func TestTamper(t *testing.T) {
	t.Parallel()
	const dir = "culprit-" + captureID
	whole, _ := pack(t, about, Bytes("a", []byte("aaa")), Bytes("b", []byte("bbb")), Bytes("c", []byte("ccc")))
	const a, b, c, manifest = 0, 1, 2, 3
	regular := func(name, content string) item {
		return item{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600}, content}
	}
	for name, test := range map[string]struct {
		change func([]item) []item
		good   int
		want   string
	}{
		"nothing":   {func(i []item) []item { return i }, 3, ""},
		"order":     {func(i []item) []item { slices.Reverse(i); return i }, 3, ""},
		"same size": {func(i []item) []item { i[b].content = "bbB"; return i }, 2, "b: it was changed: its SHA-256 differs"},
		"size":      {func(i []item) []item { i[b].content = "bb"; return i }, 2, "b: it was changed: it has 2 bytes instead of 3"},
		"missing":   {func(i []item) []item { return slices.Delete(i, b, c) }, 2, "b: it is missing"},
		"renamed": {
			func(i []item) []item { i[b].Name = dir + "/B"; return i }, 2,
			"b: it is missing\nB: it is not in the manifest",
		},
		"additional":    {func(i []item) []item { return append(i, regular(dir+"/traces/x", "")) }, 3, "traces/x: it is not in the manifest"},
		"no manifest":   {func(i []item) []item { return i[:manifest] }, 0, "manifest.json: it is missing: the bundle is not complete"},
		"empty":         {func(i []item) []item { return nil }, 0, "manifest.json: it is missing: the bundle is not complete"},
		"no JSON":       {func(i []item) []item { i[manifest].content = "{"; return i }, 0, "manifest.json: it cannot be read: unexpected end of JSON input"},
		"other format":  {func(i []item) []item { i[manifest].content = `{"format":2}`; return i }, 0, "manifest.json: it has format 2, of another culprit; this one knows format 1"},
		"twice":         {func(i []item) []item { return append(i, regular(dir+"/b", "bbb")) }, 2, dir + "/b: it is there twice"},
		"two manifests": {func(i []item) []item { return append(i, i[manifest]) }, 3, dir + "/manifest.json: it is there twice"},
		"outside":       {func(i []item) []item { return append(i, regular("../../etc/passwd", "x")) }, 3, "../../etc/passwd: it is not in the bundle's directory"},
		"up":            {func(i []item) []item { return append(i, regular(dir+"/../x", "x")) }, 3, dir + "/../x: culprit gives no file that name"},
		"absolute":      {func(i []item) []item { return append(i, regular("/etc/passwd", "x")) }, 3, "/etc/passwd: it is not in the bundle's directory"},
		"escape": {
			func(i []item) []item { return append(i, regular(dir+"/\x1b[2J\n\u202e", "x")) }, 3,
			dir + `/\x1b[2J\n\u202e: culprit gives no file that name`,
		},
		"long name": {
			func(i []item) []item { return append(i, regular(dir+"/"+strings.Repeat("n", 5000), "x")) }, 3,
			dir + "/" + strings.Repeat("n", 165) + "…: its name is too long",
		},
		"link": {func(i []item) []item {
			i[b] = item{tar.Header{Typeflag: tar.TypeSymlink, Name: dir + "/b", Linkname: "/etc/passwd"}, ""}
			return i
		}, 2, dir + "/b: it is not an ordinary file: type '2'"},
		"hard link": {func(i []item) []item {
			return append(i, item{tar.Header{Typeflag: tar.TypeLink, Name: dir + "/d", Linkname: "/etc/passwd"}, ""})
		}, 3, dir + "/d: it is not an ordinary file: type '1'"},
		"device": {func(i []item) []item {
			return append(i, item{tar.Header{Typeflag: tar.TypeBlock, Name: dir + "/d"}, ""})
		}, 3, dir + "/d: it is not an ordinary file: type '4'"},
		"attributes": {func(i []item) []item {
			i[b].PAXRecords, i[b].Format = map[string]string{"SCHILY.xattr.security.capability": "x"}, tar.FormatPAX
			return i
		}, 2, dir + `/b: its header has "SCHILY.xattr.security.capability", which culprit does not write`},
		"long record": {func(i []item) []item {
			i[b].PAXRecords, i[b].Format = map[string]string{"x." + strings.Repeat("y", 5000): "x"}, tar.FormatPAX
			return i
		}, 2, dir + `/b: its header has "x.` + strings.Repeat("y", 182) + "…"},
		"other directory": {func(i []item) []item {
			for n := range i {
				i[n].Name = strings.Replace(i[n].Name, dir, "culprit-X", 1)
			}
			return i
		}, 3, ": its directory is culprit-X, but the manifest says " + dir},
		"listed twice": {func(i []item) []item {
			var m Manifest
			if err := json.Unmarshal([]byte(i[manifest].content), &m); err != nil {
				t.Error(err)
			}
			m.Files = append(m.Files, m.Files[b], Entry{Path: manifestName})
			changed, _ := json.Marshal(m)
			i[manifest].content = string(changed)
			return i
		}, 3, "b: the manifest lists it twice\nmanifest.json: the manifest lists it twice"},
		"all at once": {func(i []item) []item {
			i[b].content = "x"
			return append(i[b:], regular(dir+"/d", ""), regular("e", ""))
		}, 1, "e: it is not in the bundle's directory\na: it is missing\nb: it was changed: it has 1 bytes instead of 3\nd: it is not in the manifest"},
	} {
		r := check(t, archive(t, test.change(unpack(t, whole))...))
		want := strings.TrimPrefix(test.want, ": ")
		if got := problems(r); got != want || r.Good != test.good || r.OK() != (want == "") {
			t.Errorf("%s: %d good, got\n%s\nwant %d\n%s", name, r.Good, got, test.good, want)
		}
	}
}

// Damage is a problem that Verify reports, wherever it is.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole, digest := pack(t, about, someFiles...)
	for n := range whole {
		if r := check(t, whole[:n]); r.OK() {
			t.Errorf("the first %d bytes of %d are not the whole", n, len(whole))
		}
		flipped := slices.Clone(whole)
		flipped[n] ^= 1
		// Some bits of zstd's headers change nothing of what is unpacked.
		if r := check(t, flipped); r.OK() && (r.Digest != digest || r.Good != len(someFiles)) {
			t.Errorf("byte %d was changed", n)
		}
	}
	for name, b := range map[string][]byte{
		"text":      []byte("this is no bundle"),
		"appended":  append(slices.Clone(whole), "x"...),
		"two":       slices.Concat(whole, whole),
		"no tar":    compress(t, []byte(strings.Repeat("no tar", 200))),
		"plain tar": make([]byte, 1024),
	} {
		if r := check(t, b); r.OK() || !strings.Contains(problems(r), "it is damaged, cut short or no bundle: ") {
			t.Errorf("%s: %s", name, problems(r))
		}
	}
	if r := check(t, slices.Concat(whole, compress(t, make([]byte, 8192)))); !r.OK() {
		t.Errorf("padded with zeros: %s", problems(r))
	}
	broken := iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(whole)))
	if r, err := Verify(broken); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that fails: %+v, %v", r, err)
	}
}

// What a hostile bundle can make us do is bounded.
func TestBounds(t *testing.T) {
	t.Parallel()
	whole, _ := pack(t, about, someFiles...)
	for name, c := range map[string]struct {
		change func(*limits)
		want   string
	}{
		"bytes":    {func(l *limits) { l.bytes = 300_000 }, "it unpacks to more than any capture has"},
		"files":    {func(l *limits) { l.files = 2 }, "it has more than 2 files"},
		"manifest": {func(l *limits) { l.manifestBytes = 100 }, "its manifest has "},
	} {
		l := usual
		c.change(&l)
		r, err := verify(bytes.NewReader(whole), l)
		if err != nil || r.OK() || !strings.Contains(problems(r), c.want) {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
	var many []item
	for n := range 20 {
		many = append(many, item{tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%d/x", n)}, ""})
	}
	l := usual
	l.problems = 5
	if r, err := verify(bytes.NewReader(archive(t, many...)), l); err != nil || len(r.Problems) != 5 || r.More != 15 {
		t.Errorf("%+v, %v", r, err)
	}
	// A sparse file unpacks to what its header likes. tar.Writer makes none itself.
	sparse := item{tar.Header{
		Typeflag: tar.TypeReg, Name: "d/sparse", Format: tar.FormatPAX,
		PAXRecords: map[string]string{"xxx.sparse.major": "1", "xxx.sparse.minor": "0", "xxx.sparse.realsize": "9000000000000000000"},
	}, "1\n0\n0\n" + strings.Repeat("\x00", 506)}
	raw := bytes.ReplaceAll(uncompress(t, archive(t, sparse)), []byte("xxx.sparse"), []byte("GNU.sparse"))
	if r := check(t, compress(t, raw)); !strings.Contains(problems(r), `its header has "GNU.sparse.`) {
		t.Errorf("sparse: %s", problems(r))
	}
}

// Whatever the bytes, Verify ends, says so if they are no bundle, and what it calls
// whole is made of names that can do no harm.
func FuzzVerify(f *testing.F) {
	whole, _ := pack(f, about, someFiles...)
	f.Add(whole, true)
	f.Add(whole[:len(whole)/2], true)
	small, _ := pack(f, about, Bytes("a", []byte("a")))
	f.Add(uncompress(f, small), false)
	f.Add(bytes.Repeat([]byte("0"), 512), false) // no header of tar
	l := limits{bytes: 1 << 22, files: 100, manifestBytes: 1 << 16, problems: 10, textBytes: 50}
	f.Fuzz(func(t *testing.T, b []byte, compressed bool) {
		if !compressed { // reaches the tar reader
			b = compress(t, b)
		}
		r, err := verify(bytes.NewReader(b), l)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Problems) > l.problems || (r.Manifest == nil && len(r.Problems) == 0) {
			t.Errorf("%+v", r)
		}
		if !r.OK() {
			return
		}
		if r.Good != len(r.Manifest.Files) {
			t.Errorf("%d of %d files are good, yet it is OK", r.Good, len(r.Manifest.Files))
		}
		for _, e := range r.Manifest.Files {
			if checkName(e.Path) != nil {
				t.Errorf("%q is OK", e.Path)
			}
		}
	})
}
