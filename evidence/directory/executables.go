package directory

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"culprit/internal/event"
)

// Executables is the directory of the copies of executables. Each is called by its SHA-256, and
// is there once. Nobody may execute it.
const Executables = "executables"

// unfinishedCopy ends the name of a copy that is being made.
const unfinishedCopy = ".tmp"

// IsExecutable reports whether a file of that name in Executables is a copy, or part of one.
func IsExecutable(name string) (sha256 string, unfinished, ok bool) {
	sum, unfinished := strings.CutSuffix(name, unfinishedCopy)
	b, err := hex.DecodeString(sum)
	return sum, unfinished, unfinished || err == nil && len(b) == 32 && sum == strings.ToLower(sum)
}

// Executable returns the copy of the executable with that SHA-256, if there is one.
func (d *Directory) Executable(sha256 string) (event.File, bool) {
	name := filepath.Join(Executables, sha256)
	info, err := d.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return event.File{}, false
	}
	return event.File{Path: filepath.Join(d.Path(), name), Size: info.Size()}, true
}

// ErrTooLarge says that an executable is larger than what is kept.
var ErrTooLarge = errors.New("the executable is too large")

// KeepExecutable copies an executable of at most that many bytes, unless there is a copy, and
// returns its SHA-256. Only one copy may be made at a time.
func (d *Directory) KeepExecutable(content io.Reader, most int64) (sum string, file event.File, err error) {
	if err := d.root.MkdirAll(Executables, 0o700); err != nil {
		return "", file, fmt.Errorf("make the directory of executables: %w", err)
	}
	unfinished := filepath.Join(Executables, event.NewID()+unfinishedCopy)
	f, err := d.root.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", file, fmt.Errorf("keep an executable: %w", err)
	}
	defer d.root.Remove(unfinished) // unless it was renamed
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(content, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", file, fmt.Errorf("keep an executable: %w", err)
	}
	if n > most {
		return "", file, ErrTooLarge
	}
	sum = hex.EncodeToString(hash.Sum(nil))
	if file, there := d.Executable(sum); there {
		now := time.Now() // it is younger than its first snapshot
		_ = d.root.Chtimes(filepath.Join(Executables, sum), now, now)
		return sum, file, nil
	}
	name := filepath.Join(Executables, sum)
	if err := d.root.Rename(unfinished, name); err != nil {
		return "", file, fmt.Errorf("keep an executable: %w", err)
	}
	return sum, event.File{Path: filepath.Join(d.Path(), name), Size: n}, nil
}
