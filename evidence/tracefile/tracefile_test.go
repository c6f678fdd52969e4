package tracefile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var when = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const sample = "# header\n812 1.0 read(0, \"x\")\n"

// makeTrace makes a trace and returns its name.
func makeTrace(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "812-php-ID.strace")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, when, when); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t testing.TB, name string) (text, path string) {
	t.Helper()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), f.Path()
}

// files are the names in the directory of a trace, without what they begin with.
func files(t testing.TB, name string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, strings.TrimPrefix(e.Name(), "812-php-ID"))
	}
	return strings.Join(all, " ")
}

func TestCompress(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", sample, strings.Repeat(sample, 200_000)} {
		name := makeTrace(t, text)
		if got, path := read(t, name); got != text || path != name {
			t.Errorf("plain: %d bytes of %s", len(got), path)
		}
		if err := Compress(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		got, path := read(t, name)
		if got != text || path != name+Suffix || files(t, name) != ".strace.zst" {
			t.Errorf("compressed: %d bytes of %s, files %s", len(got), path, files(t, name))
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 || !info.ModTime().Equal(when) || len(text) > 1e6 && info.Size() > int64(len(text)/50) {
			t.Errorf("%v %s, %d bytes of %d", info.Mode(), info.ModTime(), info.Size(), len(text))
		}
		if err := Compress(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("compressed twice: %v", err)
		}
		if zstd, err := exec.LookPath("zstd"); err == nil {
			if out, err := exec.Command(zstd, "-t", path).CombinedOutput(); err != nil {
				t.Errorf("zstd -t: %v: %s", err, out)
			}
		}
	}
}

// Wherever it is interrupted, the trace can be read, and the next attempt succeeds.
func TestCompressInterrupted(t *testing.T) {
	t.Parallel()
	for i, want := range []string{".strace", ".strace .strace.zst.tmp", ".strace .strace.zst.tmp", ".strace .strace.zst", ".strace.zst"} {
		name := makeTrace(t, sample)
		c := compressing{ctx: t.Context(), name: name}
		for _, step := range c.steps()[:i] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if got := files(t, name); got != want {
			t.Errorf("after %d steps: files %s, want %s", i, got, want)
		}
		if got, _ := read(t, name); got != sample {
			t.Errorf("after %d steps: read %q", i, got)
		}
		if i == len(c.steps()) {
			continue
		}
		if err := Compress(t.Context(), name); err != nil {
			t.Errorf("after %d steps: %v", i, err)
		}
		if got, _ := read(t, name); got != sample || files(t, name) != ".strace.zst" {
			t.Errorf("after %d steps and again: read %q, files %s", i, got, files(t, name))
		}
	}
}

// What fails leaves the trace as it was.
func TestCompressFails(t *testing.T) {
	t.Parallel()
	name := makeTrace(t, sample)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Compress(ctx, name); !errors.Is(err, context.Canceled) || files(t, name) != ".strace" {
		t.Errorf("got %v, files %s", err, files(t, name))
	}
	if err := os.MkdirAll(name+Unfinished+"/x", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Compress(t.Context(), name); err == nil {
		t.Error("compressed over a directory")
	}
	if got, _ := read(t, name); got != sample {
		t.Errorf("read %q", got)
	}
}

// Links and other files that are no traces are neither read nor written through.
func TestHostile(t *testing.T) {
	t.Parallel()
	name := makeTrace(t, sample)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Links where the compressed file will be, and the unfinished one.
	must(os.Symlink(secret, name+Suffix))
	must(os.Symlink(secret, name+Unfinished))
	must(Compress(t.Context(), name))
	if b, _ := os.ReadFile(secret); string(b) != "secret" {
		t.Errorf("the file behind a link became %q", b)
	}
	if got, _ := read(t, name); got != sample {
		t.Errorf("read %q", got)
	}
	for what, make := range map[string]func(path string) error{
		"symlink":   func(path string) error { return os.Symlink(secret, path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"FIFO":      func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		name := filepath.Join(t.TempDir(), "a.strace")
		must(make(name))
		if f, err := Open(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: opened %v, %v", what, f, err)
		}
		if err := Compress(t.Context(), name); err == nil {
			t.Errorf("%s: compressed", what)
		}
		must(os.Rename(name, name+Suffix))
		if f, err := Open(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("compressed %s: opened %v, %v", what, f, err)
		}
	}
}

func TestOpenMissingAndDamaged(t *testing.T) {
	t.Parallel()
	name := makeTrace(t, strings.Repeat(sample, 1000))
	if _, err := Open(name + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := Compress(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name + Suffix)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"cut":      whole[:len(whole)-5],
		"changed":  append(bytes.Clone(whole[:len(whole)-2]), 1, 2),
		"no zstd":  []byte("this is something else"),
		"a window": {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0, 0, 0},
	} {
		if err := os.WriteFile(name+Suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(f); err == nil || !strings.Contains(err.Error(), name+Suffix) {
			t.Errorf("%s: got %v", what, err)
		}
		f.Close()
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	name := makeTrace(t, sample)
	for _, suffix := range []string{Suffix, Unfinished} {
		if err := os.WriteFile(name+suffix, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for range 2 {
		if err := Remove(root, filepath.Base(name)); err != nil || files(t, name) != "" {
			t.Errorf("%v, files %q", err, files(t, name))
		}
	}
	if err := Remove(root, "../a.strace"); err == nil {
		t.Error("removed outside")
	}
}

// BenchmarkCompress says how fast traces are compressed, and how small they get.
func BenchmarkCompress(b *testing.B) {
	var text bytes.Buffer
	for i := range 100_000 {
		text.WriteString(strings.Repeat("812 1.0 read(0, \"x\")\n", i%3))
		text.WriteString("812 1700000000.123456 sendto(3<UDP:[127.0.0.1:42392->127.0.0.1:53]>, \"\\0\\1" + time.Duration(i*7919).String() + "\", 32) = 32\n")
	}
	name := filepath.Join(b.TempDir(), "a.strace")
	for b.Loop() {
		b.StopTimer()
		if err := os.WriteFile(name, text.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := Compress(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(name + Suffix)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportMetric(float64(text.Len())/float64(info.Size()), "times-smaller")
}
