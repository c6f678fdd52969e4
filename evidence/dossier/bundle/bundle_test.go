package bundle

import (
	"bytes"
	"crypto/sha256"
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
	"time"

	"github.com/google/go-cmp/cmp"
)

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
		"there are two with that name":          {about, of("a", "b", "a")},
		"the manifest has that name":            {about, of(manifestName)},
		"..: culprit gives no file that name":   {about, of("..")},
		"../a: culprit gives no file that name": {about, of("../a")},
		"/a: culprit gives no file that name":   {about, of("/a")},
		`a\n: culprit gives no file that name`:  {about, of("a\n")},
		"a b: culprit gives no file that name":  {about, of("a b")},
		": culprit gives no file that name":     {about, of("")},
		"its name is too long":                  {about, of(strings.Repeat("a", 161))},
		"no capture the id \"../x\"":            {other, nil},
		"110001 files are more":                 {about, make([]File, maxFiles+1)},
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
