package bundles

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"culprit/evidence/directory"
	"culprit/fleet"
)

const (
	partHead   = 4 << 10  // bytes of a part that say what it is
	partPrefix = "fetch-" // then the capture
	partSuffix = ".part"
	partAge    = 7 * 24 * time.Hour // after that it is removed: nobody goes on with it
)

// errFetched says that somebody else fetches the same.
var errFetched = errors.New("another culprit fetches it now: wait for that one")

// A part is the file in the mirror in which a bundle arrives. If that is interrupted, by whatever, the next one goes on with it. Its head says
// of which object it is, and what has come.
type part struct {
	file *os.File
	dir  *directory.Directory
	name string
	head head
	sum  hash.Hash // of what has come
}

// head is what a part says of itself.
type head struct {
	Object string `json:"object"` // its id
	Digest string `json:"digest"`
	Size   int64  `json:"size"`   // bytes that have come
	SHA256 string `json:"sha256"` // of these
	At     uint64 `json:"at"`     // the place of the last chunk
}

// openPart opens the part of a capture's bundle, and makes it if there is none. What is not whole in it is left away. Parts that nobody has gone
// on with for long are removed.
func openPart(d *directory.Directory, capture string) (*part, error) {
	p := &part{dir: d, name: partPrefix + capture + partSuffix}
	if err := removeParts(d, p.name, time.Now().Add(-partAge)); err != nil {
		return nil, err
	}
	for {
		f, err := d.Root().OpenFile(p.name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make a file for the bundle: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = errFetched
			}
			return nil, err
		}
		// Who had the lock may have removed the file.
		ours, err := f.Stat()
		if there, gone := d.Root().Lstat(p.name); err == nil && gone == nil && os.SameFile(ours, there) {
			p.file = f
			return p, p.load()
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// removeParts removes parts that were not changed since some time, but one.
func removeParts(d *directory.Directory, but string, since time.Time) error {
	all, err := fs.ReadDir(d.Root().FS(), ".")
	if err != nil {
		return fmt.Errorf("look for parts of bundles: %w", err)
	}
	for _, e := range all {
		if name := e.Name(); name != but && strings.HasPrefix(name, partPrefix) && strings.HasSuffix(name, partSuffix) {
			if info, err := e.Info(); err == nil && info.ModTime().Before(since) {
				_ = d.Root().Remove(name)
			}
		}
	}
	return nil
}

// load reads what has come. A part that is not as its head says begins anew.
func (p *part) load() error {
	text := make([]byte, partHead)
	n, err := p.file.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read what has come of the bundle: %w", err)
	}
	text = text[:n]
	p.sum = sha256.New()
	end := strings.IndexByte(string(text), '\n')
	if end < 0 || json.Unmarshal(text[:end], &p.head) != nil || p.head.Size < 0 {
		return p.begin(fleet.Object{})
	}
	n64, err := io.Copy(p.sum, io.NewSectionReader(p.file, partHead, p.head.Size))
	if err != nil {
		return fmt.Errorf("read what has come of the bundle: %w", err)
	}
	if n64 != p.head.Size || p.head.SHA256 != fmt.Sprintf("%x", p.sum.Sum(nil)) {
		return p.begin(fleet.Object{})
	}
	return nil
}

// of reports whether the part is one of an object.
func (p *part) of(o fleet.Object) bool {
	return p.head.Object == o.ID && p.head.Digest == o.Digest && p.head.Size <= o.Size
}

// begin makes it an empty part of an object.
func (p *part) begin(o fleet.Object) error {
	p.head = head{Object: o.ID, Digest: o.Digest}
	p.sum = sha256.New()
	if err := p.file.Truncate(0); err != nil {
		return fmt.Errorf("begin the file of the bundle anew: %w", err)
	}
	return p.note()
}

// add adds a chunk.
func (p *part) add(data []byte, at uint64) error {
	if _, err := p.file.WriteAt(data, partHead+p.head.Size); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	p.sum.Write(data)
	p.head.Size, p.head.At = p.head.Size+int64(len(data)), at
	return p.note()
}

// note writes the head. What has come after the one before it does not count until then.
func (p *part) note() error {
	p.head.SHA256 = fmt.Sprintf("%x", p.sum.Sum(nil))
	text, _ := json.Marshal(p.head) // cannot fail
	if _, err := p.file.WriteAt(append(text, '\n'), 0); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// content is what has come.
func (p *part) content() *io.SectionReader {
	return io.NewSectionReader(p.file, partHead, p.head.Size)
}

// remove removes the part; it can still be read.
func (p *part) remove() error { return p.dir.Root().Remove(p.name) }

func (p *part) close() { p.file.Close() }
