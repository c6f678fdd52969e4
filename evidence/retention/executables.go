package retention

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/directory"
)

// unnamed is how long a copy of an executable may be that no snapshot names: the snapshot that
// does is written after the copy.
const unnamed = time.Hour

// scanExecutables lists the copies of executables. A copy is as old as the latest snapshot that
// names it.
func (e evidence) scanExecutables(now time.Time) (all []stored, err error) {
	files, err := fs.ReadDir(e.dir.Root().FS(), directory.Executables)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for executables: %w", err)
	}
	named, err := e.catalogue.Executables()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		sha256, unfinished, ok := directory.IsExecutable(f.Name())
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue // not ours, or just removed
		}
		s := stored{name: path.Join(directory.Executables, f.Name()), size: onDisk(info)}
		by, is := named[sha256]
		young := now.Sub(info.ModTime()).Abs() < unnamed
		if s.id, err = ulid.ParseStrict(by.Snapshot); err != nil || !is {
			if s.id.SetTime(uint64(max(0, info.ModTime().UnixMilli()))) != nil {
				continue
			}
		}
		s.proven, s.open, s.left = by.Proven, !is && young, unfinished && !young
		all = append(all, s)
	}
	return all, nil
}

// executable returns the SHA-256 of the executable whose copy it is, or "".
func (r Removal) executable() string {
	if path.Dir(r.Name) != directory.Executables {
		return ""
	}
	return path.Base(r.Name)
}
