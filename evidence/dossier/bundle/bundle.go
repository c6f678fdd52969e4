// Package bundle packs a capture into one file, to send or to archive, and checks such a file.
//
// A bundle is a tar archive, compressed with zstd, of one directory named after the
// capture:
//
//	culprit-01JH…/packets.pcapng
//	culprit-01JH…/report.html
//	culprit-01JH…/traces/812-php-01JH….strace
//	culprit-01JH…/manifest.json
//
// The manifest lists the size and SHA-256 of every other file. It comes last: so each file is read
// only once, the bytes that are hashed are those that are packed, even while a trace grows, and an
// archive that was cut short has no manifest.
//
// The same files make the same bytes. The manifest protects against damage and mix-ups, not
// against somebody who makes a new manifest: for that, keep the SHA-256 of the manifest, which
// [Write] and [Verify] return, somewhere else.
package bundle

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"

	"culprit/internal/event"
)

// Manifest says what a bundle holds. Its fields are named as in the Elastic Common Schema, where
// that has a name.
type Manifest struct {
	Format  int           `json:"format"` // of the bundle: see [Format]
	Agent   Agent         `json:"agent"`
	Host    Host          `json:"host"`
	Capture event.Capture `json:"capture"` // as the catalogue has it
	Files   []Entry       `json:"files"`   // sorted by path; without the manifest itself
}

// Format is the version of the format that [Write] and [Verify] know.
const Format = 1

// Agent is the program that made a bundle.
type Agent struct {
	Type    string `json:"type"` // "culprit"
	Version string `json:"version"`
}

// Host is the machine that the evidence comes from.
type Host struct {
	Name string `json:"name"`
}

// Entry is a file of a bundle.
type Entry struct {
	Path string `json:"path"` // below the bundle's directory
	Size int64  `json:"size"` // bytes
	Hash Hash   `json:"hash"`
}

// Hash is the digest of a file, in lower-case hex.
type Hash struct {
	SHA256 string `json:"sha256"`
}

// manifestName is the name of the manifest in a bundle.
const manifestName = "manifest.json"

// directory returns the one directory of a bundle.
func directory(m *Manifest) string { return "culprit-" + m.Capture.Event.ID }

// Bounds of a bundle. maxFiles is more than the largest capture has traces, and maxManifest (in
// bytes) is the most that this many files need.
const (
	maxFiles    = 110_000
	maxName     = 160
	maxManifest = 64 << 20
)

// checkName refuses names unlike ours, which are letters, digits and "._-", in directories below
// the bundle's own. So no file is unpacked anywhere else.
func checkName(name string) error {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/", r))
	}
	switch {
	case len(name) > maxName:
		return errors.New("its name is too long")
	case !fs.ValidPath(name) || name == "." || strings.IndexFunc(name, odd) >= 0:
		return errors.New("culprit gives no file that name")
	}
	return nil
}

func (m *Manifest) write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(m)
}
