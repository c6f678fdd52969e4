package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"culprit/internal/text"
)

// File is a file to pack.
type File struct {
	Name string // in the bundle, below its directory, such as "traces/812-php-ID.strace"
	// Open opens the content and returns how many bytes of it to pack. It is called once, and
	// only one file is open at a time.
	Open func() (content io.ReadCloser, size int64, err error)
}

// Bytes makes a File of bytes in memory.
func Bytes(name string, content []byte) File {
	return File{name, func() (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
	}}
}

// Path makes a File of a file on this machine, with the size that it has when it is opened: what is
// appended later is not packed. It must be a regular file; links are not followed.
func Path(name, path string) File {
	return File{name, func() (io.ReadCloser, int64, error) {
		// A FIFO in its place must not block us.
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not an ordinary file", path)
		}
		if err != nil {
			f.Close()
			return nil, 0, err
		}
		return f, info.Size(), nil
	}}
}

// window is how far back compression looks, in bytes. It bounds the memory for unpacking.
const window = 1 << 20

// Write writes a bundle of the files, in any order, with a manifest of m's agent, host and capture.
// It returns the manifest's SHA-256 in hex. After an error what was written is no bundle.
func Write(w io.Writer, m Manifest, files []File) (digest string, err error) {
	// One worker: the bytes that several make depend on timing.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return "", fmt.Errorf("write bundle: %w", err)
	}
	if digest, err = writeTar(z, m, files); err == nil {
		err = z.Close()
	} else {
		z.Close() // frees memory
	}
	if err != nil {
		return "", fmt.Errorf("write bundle: %w", err)
	}
	return digest, nil
}

func writeTar(w io.Writer, m Manifest, files []File) (digest string, err error) {
	if err := checkName(m.Capture.Event.ID); err != nil || len(m.Capture.Event.ID) > 26 {
		return "", fmt.Errorf("culprit gives no capture the id %q", m.Capture.Event.ID)
	}
	if len(files) > maxFiles {
		return "", fmt.Errorf("%d files are more than the %d that fit", len(files), maxFiles)
	}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	p := &packer{tar.NewWriter(w), directory(&m), m.Capture.Timestamp.UTC().Truncate(time.Second)}
	m.Format, m.Files = Format, []Entry{}
	for i, f := range files {
		err := checkName(f.Name)
		switch {
		case err != nil:
		case f.Name == manifestName:
			err = errors.New("the manifest has that name")
		case i > 0 && files[i-1].Name == f.Name:
			err = errors.New("there are two with that name")
		default:
			var e Entry
			if e, err = p.add(f); err == nil {
				m.Files = append(m.Files, e)
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", text.Escape(f.Name), err)
		}
	}
	var b bytes.Buffer
	if err := m.write(&b); err != nil {
		return "", err
	}
	e, err := p.add(Bytes(manifestName, b.Bytes()))
	if err != nil {
		return "", err
	}
	return e.Hash.SHA256, p.tar.Close()
}

// packer puts files into an archive. Owner and mode are always the same, and the time is that of
// the capture, so that the same files make the same bytes.
type packer struct {
	tar  *tar.Writer
	dir  string
	time time.Time
}

func (p *packer) add(f File) (Entry, error) {
	content, size, err := f.Open()
	if err != nil {
		return Entry{}, err
	}
	defer content.Close()
	header := &tar.Header{Typeflag: tar.TypeReg, Name: p.dir + "/" + f.Name, Size: size, Mode: 0o600, ModTime: p.time}
	if err := p.tar.WriteHeader(header); err != nil {
		return Entry{}, err
	}
	hash := sha256.New()
	n, err := io.CopyN(io.MultiWriter(p.tar, hash), content, size)
	if err == io.EOF {
		return Entry{}, fmt.Errorf("it became shorter while it was read: %d bytes instead of %d", n, size)
	}
	return Entry{Path: f.Name, Size: size, Hash: Hash{hex.EncodeToString(hash.Sum(nil))}}, err
}
