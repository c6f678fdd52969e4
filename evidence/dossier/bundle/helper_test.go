package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

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
