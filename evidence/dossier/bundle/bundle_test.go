package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"culprit/internal/event"
)

const captureID = "01JH0000000000000000000000"

var about = Manifest{
	Agent: Agent{"culprit", "1.2.3"}, Host: Host{"www1"},
	Capture: event.Capture{
		Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC),
		Event:     event.Meta{ID: captureID, Kind: "event", Action: event.ActionCapture},
		User:      event.User{ID: "4242"},
		Culprit:   event.CaptureDetail{State: event.StateEnded, Level: 1, Hits: 2},
	},
}

var someFiles = []File{
	Bytes("traces/812-php-01JH0000000000000000000001.strace", []byte("# header\n812 1.0 sendto(3, …\n")),
	Bytes("packets.pcapng", bytes.Repeat([]byte{0x0a, 0x0d, 0x0d}, 100_000)),
	Bytes("empty", nil),
}

func pack(t testing.TB, m Manifest, files ...File) ([]byte, string) {
	t.Helper()
	var b bytes.Buffer
	digest, err := Write(&b, m, files)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), digest
}

func check(t testing.TB, b []byte) *Report {
	t.Helper()
	r, err := Verify(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b, digest := pack(t, about, someFiles...)
	r := check(t, b)
	if !r.OK() || r.Good != 3 || r.Digest != digest {
		t.Errorf("got %+v", r)
	}
	hash := func(s string) Hash { return Hash{fmt.Sprintf("%x", sha256.Sum256([]byte(s)))} }
	want := about
	want.Format = 1
	want.Files = []Entry{
		{"empty", 0, hash("")},
		{"packets.pcapng", 300_000, hash(strings.Repeat("\x0a\x0d\x0d", 100_000))},
		{"traces/812-php-01JH0000000000000000000001.strace", 31, hash("# header\n812 1.0 sendto(3, …\n")},
	}
	if d := cmp.Diff(&want, r.Manifest); d != "" {
		t.Error(d)
	}
}

// The same files make the same bytes, in any order, with any number of CPUs.
func TestReproducible(t *testing.T) {
	text := make([]byte, 3<<20) // several blocks and windows
	random := rand.NewChaCha8([32]byte{1})
	random.Read(text)
	for i := range text {
		text[i] = "0123456789 sendto(=)\n"[int(text[i])%21]
	}
	files := append(slices.Clone(someFiles), Bytes("big", text))
	first, digest := pack(t, about, files...)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	slices.Reverse(files)
	second, again := pack(t, about, files...)
	if !bytes.Equal(first, second) || digest != again {
		t.Errorf("%d and %d bytes differ", len(first), len(second))
	}
}

// tar and zstd unpack what Write makes, whatever the size of numbers and names.
func TestUnpack(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"tar", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	long := "traces/4194304-" + strings.Repeat("n", 32) + "-01JH0000000000000000000001.strace.zst"
	b, digest := pack(t, about, append(someFiles, Bytes(long, []byte("x")))...)
	dir := t.TempDir()
	cmd := exec.Command("tar", "--zstd", "-xf", "-", "-C", dir)
	cmd.Stdin = bytes.NewReader(b)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v %s", err, out)
	}
	top := filepath.Join(dir, "culprit-"+captureID)
	for name, want := range map[string]string{long: "x", "empty": ""} {
		if got, err := os.ReadFile(filepath.Join(top, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	info, err := os.Stat(filepath.Join(top, long))
	if err != nil || info.Mode() != 0o600 || !info.ModTime().Equal(about.Capture.Timestamp.Truncate(time.Second)) {
		t.Errorf("%v, %v", info, err)
	}
	manifest, err := os.ReadFile(filepath.Join(top, manifestName))
	if got := fmt.Sprintf("%x", sha256.Sum256(manifest)); err != nil || got != digest {
		t.Errorf("the manifest is %s, Write said %s: %v", got, digest, err)
	}
}

// A file that grows is packed as it was; one that shrinks, and what is no ordinary
// file, is refused.
func TestPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	changing := func(to string) File {
		return File{"f", func() (io.ReadCloser, int64, error) {
			content, size, err := Path("f", path).Open()
			put(to)
			return content, size, err
		}}
	}
	put("some text")
	b, _ := pack(t, about, changing("some text and more"))
	if r := check(t, b); !r.OK() || r.Manifest.Files[0].Size != 9 {
		t.Errorf("grown: %+v", r)
	}
	if _, err := Write(io.Discard, about, []File{changing("some")}); err == nil || !strings.Contains(err.Error(), "f: it became shorter") {
		t.Errorf("shrunk: %v", err)
	}
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fifo: "not an ordinary file", dir: "not an ordinary file", link: "too many levels of symbolic links", dir + "/none": "no such file",
	} {
		if _, err := Write(io.Discard, about, []File{Path("f", path)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	of := func(names ...string) (files []File) {
		for _, n := range names {
			files = append(files, Bytes(n, nil))
		}
		return files
	}
	other := about
	other.Capture.Event.ID = "../x"
	for want, c := range map[string]struct {
		m     Manifest
		files []File
	}{
		"there are two of it":        {about, of("a", "b", "a")},
		"the manifest has that name": {about, of(manifestName)},
		"..: its name is none":       {about, of("..")},
		"../a: its name is none":     {about, of("../a")},
		"/a: its name is none":       {about, of("/a")},
		`a\n: its name is none`:      {about, of("a\n")},
		"a b: its name is none":      {about, of("a b")},
		": its name is none":         {about, of("")},
		"its name is too long":       {about, of(strings.Repeat("a", 161))},
		"id \"../x\" is none":        {other, nil},
		"110001 files are more":      {about, make([]File, maxFiles+1)},
	} {
		if _, err := Write(io.Discard, c.m, c.files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	full := writer(func([]byte) (int, error) { return 0, syscall.ENOSPC })
	if _, err := Write(full, about, someFiles); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// item is a file of an archive that somebody else made.
type item struct {
	tar.Header
	content string
}

func unpack(t testing.TB, b []byte) (items []item) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(uncompress(t, b))); ; {
		h, err := r.Next()
		if err == io.EOF {
			return items
		}
		content, err2 := io.ReadAll(r)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		items = append(items, item{*h, string(content)})
	}
}

func archive(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		if i.Typeflag == tar.TypeReg {
			i.Size = int64(len(i.content))
		}
		if err := w.WriteHeader(&i.Header); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, i.content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return compress(t, b.Bytes())
}

func uncompress(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if b, err = z.DecodeAll(b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func compress(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

// problems is what Verify says, a line for each.
func problems(r *Report) string {
	var lines []string
	for _, p := range r.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

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
		"same size": {func(i []item) []item { i[b].content = "bbB"; return i }, 2, "b: it was changed: its SHA-256 is another"},
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
		"other format":  {func(i []item) []item { i[manifest].content = `{"format":2}`; return i }, 0, "manifest.json: it has the format 2 of another culprit, this one knows 1"},
		"twice":         {func(i []item) []item { return append(i, regular(dir+"/b", "bbb")) }, 2, dir + "/b: it is there twice"},
		"two manifests": {func(i []item) []item { return append(i, i[manifest]) }, 3, dir + "/manifest.json: it is there twice"},
		"outside":       {func(i []item) []item { return append(i, regular("../../etc/passwd", "x")) }, 3, "../../etc/passwd: it is not in the bundle's directory"},
		"up":            {func(i []item) []item { return append(i, regular(dir+"/../x", "x")) }, 3, dir + "/../x: its name is none that culprit gives"},
		"absolute":      {func(i []item) []item { return append(i, regular("/etc/passwd", "x")) }, 3, "/etc/passwd: it is not in the bundle's directory"},
		"escape": {
			func(i []item) []item { return append(i, regular(dir+"/\x1b[2J\n\u202e", "x")) }, 3,
			dir + `/\x1b[2J\n\u202e: its name is none that culprit gives`,
		},
		"long name": {
			func(i []item) []item { return append(i, regular(dir+"/"+strings.Repeat("n", 5000), "x")) }, 3,
			dir + "/" + strings.Repeat("n", 165) + "…: its name is too long",
		},
		"link": {func(i []item) []item {
			i[b] = item{tar.Header{Typeflag: tar.TypeSymlink, Name: dir + "/b", Linkname: "/etc/passwd"}, ""}
			return i
		}, 2, dir + "/b: it is no ordinary file: type '2'"},
		"hard link": {func(i []item) []item {
			return append(i, item{tar.Header{Typeflag: tar.TypeLink, Name: dir + "/d", Linkname: "/etc/passwd"}, ""})
		}, 3, dir + "/d: it is no ordinary file: type '1'"},
		"device": {func(i []item) []item {
			return append(i, item{tar.Header{Typeflag: tar.TypeBlock, Name: dir + "/d"}, ""})
		}, 3, dir + "/d: it is no ordinary file: type '4'"},
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
		}, 3, ": its directory is culprit-X, by the manifest it is " + dir},
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

// Traces are packed and checked as fast as zstd goes, in the same memory whatever
// their size.
func BenchmarkBundle(b *testing.B) {
	line := []byte(`812 1700000000.123456 sendto(3<UDP:[127.0.0.1:42392->127.0.0.1:53]>, "\0\1", 33, 0, NULL, 0) = 33 <0.000020>` + "\n")
	for _, size := range []int64{8 << 20, 64 << 20} {
		file := File{"traces/t", func() (io.ReadCloser, int64, error) {
			return io.NopCloser(&repeater{line: line}), size, nil
		}}
		var packed bytes.Buffer
		b.Run(fmt.Sprintf("write-%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				packed.Reset()
				if _, err := Write(&packed, about, []File{file}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("verify-%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if r := check(b, packed.Bytes()); !r.OK() {
					b.Fatal(r.Problems)
				}
			}
		})
	}
}

// repeater reads the same line for ever, with a number that counts.
type repeater struct {
	line []byte
	left []byte
	n    int
}

func (r *repeater) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		r.n++
		r.left = fmt.Appendf(nil, "%d %s", r.n, r.line)
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
