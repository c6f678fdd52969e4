package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"culprit/internal/text"
)

// Report says what [Verify] found.
type Report struct {
	// Manifest is nil if none can be read. Whoever made the bundle wrote it: escape what you
	// print of it.
	Manifest *Manifest
	Digest   string // SHA-256 of the manifest, in hex
	Good     int    // files that are as the manifest says
	Bytes    int64  // of all files, uncompressed
	Problems []Problem
	More     int  // problems beyond those
	large    bool // it unpacks to more than it may
}

// OK reports whether the bundle is whole and unchanged since its manifest was made.
func (r *Report) OK() bool { return r.Manifest != nil && len(r.Problems) == 0 }

// Problem is something that is wrong with a bundle.
type Problem struct {
	Name string // of the file; empty: the bundle
	What string
}

// String describes the problem, escaped for a terminal.
func (p Problem) String() string {
	if p.Name == "" {
		return text.Escape(p.What)
	}
	return text.Escape(p.Name + ": " + p.What)
}

// limits bound what a hostile bundle can cost us.
type limits struct {
	bytes         int64 // of the archive, uncompressed
	files         int
	manifestBytes int64
	problems      int // that are reported
	textBytes     int // of each text in a problem
}

var usual = limits{bytes: 1 << 40, files: maxFiles + 1, manifestBytes: maxManifest, problems: 1000, textBytes: 200}

// Verify checks that a bundle holds everything that its manifest lists, unchanged, and nothing
// else. It reports all problems at once. It unpacks nothing, and its memory is bounded whatever
// the bundle is. An error is one of reading r; that a bundle is damaged, or no bundle at all, is a
// problem.
func Verify(r io.Reader) (*Report, error) { return verify(r, usual) }

// ErrTooLarge says that a bundle unpacks to more than whoever wants it takes.
var ErrTooLarge = errors.New("it unpacks to too much")

// VerifyWithin is [Verify] for a bundle that may unpack to so many bytes; if it does to more, it fails with [ErrTooLarge].
func VerifyWithin(r io.Reader, bytes int64) (*Report, error) {
	l := usual
	l.bytes = min(l.bytes, bytes)
	report, err := verify(r, l)
	if err == nil && report.large {
		return nil, ErrTooLarge
	}
	return report, err
}

func verify(r io.Reader, l limits) (*Report, error) {
	src := &source{r: r}
	v := &verifier{limits: l, seen: map[string]*digest{}, hash: sha256.New(), report: new(Report)}
	err := v.read(src)
	if src.err != nil {
		return nil, fmt.Errorf("verify bundle: %w", src.err)
	}
	if err != nil {
		v.problem("", "it is damaged, cut short or no bundle: "+err.Error())
	}
	v.compare()
	return v.report, nil
}

// source remembers an error of its reader, to tell it from errors in the content.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// bounded fails once that many bytes were read.
type bounded struct {
	r    io.Reader
	left int64
	over *bool
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		*b.over = true
		return 0, errors.New("it unpacks to more than any capture has")
	}
	return n, err
}

// digest is what we know of a file that was read.
type digest struct {
	size   int64
	sum    [sha256.Size]byte
	broken bool // and that was reported
	listed bool // in the manifest
}

type verifier struct {
	limits
	report   *Report
	dir      string // of the bundle, from its first file
	seen     map[string]*digest
	manifest []byte
	hash     hash.Hash
}

func (v *verifier) problem(name, what string) {
	if len(v.report.Problems) >= v.problems {
		v.report.More++
		return
	}
	cut := func(s string) string {
		if len(s) > v.textBytes {
			return s[:v.textBytes] + "…"
		}
		return s
	}
	v.report.Problems = append(v.report.Problems, Problem{cut(name), cut(what)})
}

// read reads the whole archive.
func (v *verifier) read(r io.Reader) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	unpacked := &bounded{z, v.bytes, &v.report.large}
	for t := tar.NewReader(unpacked); ; {
		header, err := t.Next()
		if err == io.EOF {
			return nothing(unpacked)
		}
		if err != nil {
			return err
		}
		if err := v.file(header, t); err != nil {
			return err
		}
	}
}

// nothing makes sure that nothing follows the end of the archive, except for zeros, with which
// other programs pad it.
func nothing(r io.Reader) error {
	const most = 1 << 20
	b, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return err
	}
	if len(b) == most || len(bytes.Trim(b, "\x00")) > 0 {
		return errors.New("more data follows its end")
	}
	return nil
}

// file reads one file. After an error, reading on is impossible or unwise.
func (v *verifier) file(h *tar.Header, r io.Reader) error {
	dir, name, _ := strings.Cut(h.Name, "/")
	if v.dir == "" {
		v.dir = dir
	}
	if what := v.wrong(h, dir, name); what != "" {
		v.problem(h.Name, what)
		if d := v.seen[name]; d != nil {
			d.broken = true
		} else if len(v.seen) < v.files && checkName(name) == nil {
			v.seen[name] = &digest{broken: true}
		}
		return nil // Next skips its content
	}
	if len(v.seen) >= v.files {
		return fmt.Errorf("it has more than %d files", v.files)
	}
	var w io.Writer = v.hash
	var manifest bytes.Buffer
	if name == manifestName {
		if h.Size > v.manifestBytes {
			return fmt.Errorf("its manifest has %s", text.Size(h.Size))
		}
		w = io.MultiWriter(v.hash, &manifest)
	}
	v.hash.Reset()
	n, err := io.Copy(w, r)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	v.report.Bytes += n
	d := &digest{size: n}
	v.hash.Sum(d.sum[:0])
	v.seen[name] = d
	if name == manifestName {
		v.manifest = manifest.Bytes()
	}
	return nil
}

// wrong says what is wrong with a file, by its header.
func (v *verifier) wrong(h *tar.Header, dir, name string) string {
	if dir != v.dir {
		return "it is not in the bundle's directory"
	}
	for _, part := range []string{dir, name} {
		if err := checkName(part); err != nil {
			return err.Error()
		}
	}
	if h.Typeflag != tar.TypeReg {
		return fmt.Sprintf("it is not an ordinary file: type %q", h.Typeflag)
	}
	for key := range h.PAXRecords {
		// A sparse file of a few bytes can unpack to exabytes.
		if key != "path" && key != "size" {
			return fmt.Sprintf("its header has %q, which culprit does not write", key)
		}
	}
	if v.seen[name] != nil {
		return "it is there twice"
	}
	return ""
}

// compare compares the manifest with what was read.
func (v *verifier) compare() {
	if v.manifest == nil {
		v.problem(manifestName, "it is missing: the bundle is not complete")
		return
	}
	sum := v.seen[manifestName].sum
	v.report.Digest = hex.EncodeToString(sum[:])
	m := new(Manifest)
	if err := json.Unmarshal(v.manifest, m); err != nil {
		v.problem(manifestName, "it cannot be read: "+err.Error())
		return
	}
	v.manifest = nil
	if m.Format != Format {
		v.problem(manifestName, fmt.Sprintf("it has format %d, of another culprit; this one knows format %d", m.Format, Format))
		return
	}
	v.report.Manifest = m
	if dir := directory(m); v.dir != dir {
		v.problem("", fmt.Sprintf("its directory is %.100s, but the manifest says %.100s", v.dir, dir))
	}
	v.seen[manifestName].listed = true
	for _, e := range m.Files {
		v.entry(&e)
	}
	for _, name := range slices.Sorted(maps.Keys(v.seen)) {
		if d := v.seen[name]; !d.listed && !d.broken {
			v.problem(name, "it is not in the manifest")
		}
	}
}

// entry compares one file with its entry in the manifest.
func (v *verifier) entry(e *Entry) {
	d := v.seen[e.Path]
	switch {
	case d == nil:
		v.problem(e.Path, "it is missing")
	case d.listed:
		v.problem(e.Path, "the manifest lists it twice")
	case d.broken: // reported
	case d.size != e.Size:
		v.problem(e.Path, fmt.Sprintf("it was changed: it has %d bytes instead of %d", d.size, e.Size))
	case hex.EncodeToString(d.sum[:]) != e.Hash.SHA256:
		v.problem(e.Path, "it was changed: its SHA-256 differs")
	default:
		v.report.Good++
	}
	if d != nil {
		d.listed = true
	}
}
