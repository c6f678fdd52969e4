package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"culprit/internal/during"
	"culprit/internal/event"
	"culprit/internal/text"
)

// maxHash is the largest executable that is read for its hash, in bytes. slowPatience is how long
// reading one may take that is on a file system which may never answer.
const (
	maxHash      = 512 << 20
	slowPatience = 5 * time.Second
)

// hashes remembers the hashes of executables. A file that has changed has another time of change,
// which no user can set.
type hashes map[version]string

// version is a file as it is now.
type version struct {
	major, minor uint32
	inode, size  uint64
	changed      int64 // nanoseconds since 1970
}

const maxHashes = 1024

func (h hashes) add(v version, sha256 string) {
	if len(h) >= maxHashes {
		clear(h)
	}
	h[v] = sha256
}

func (e *executable) version() version {
	s := &e.stat
	return version{s.Dev_major, s.Dev_minor, s.Ino, s.Size, s.Ctime.Sec*1e9 + int64(s.Ctime.Nsec)}
}

// learnt is what reading an executable gave.
type learnt struct {
	sha256 string
	err    error      // why there is no hash
	kept   event.File // the copy; its Path is "" if there is none
	unkept *Unkept    // why there is none, if there should be one
}

// read reads the executable of a snapshot, keeps a copy if it may be gone tomorrow, and records
// the snapshot. If reading takes a while, the snapshot is recorded before, too.
func (t *Taker) read(ctx context.Context, s *Snapshot) {
	keep := s.doc.Culprit.Replaceable != nil
	known, ok := t.hashes[s.exe.version()]
	if ok && s.exe.mayHang == "" {
		file, kept := t.Store.Executable(known)
		if !keep || kept {
			s.learn(learnt{sha256: known, kept: file})
			s.finish(t)
			return
		}
	}
	early := s.doc
	early.Culprit.Incomplete = append(early.Culprit.Incomplete[:len(early.Culprit.Incomplete):len(early.Culprit.Incomplete)],
		event.Incomplete{Part: event.PartExecutable, Reason: Unkept{Code: event.IncompleteUnfinished}})
	early.Fit()
	t.Store.Snapshot(early)

	exe := s.exe
	if exe.mayHang == "" {
		l := t.load(ctx, exe, keep)
		if l.sha256 != "" {
			t.hashes.add(exe.version(), l.sha256)
		}
		s.learn(l)
	} else {
		s.learn(t.loadSlowly(ctx, s, keep))
	}
	s.finish(t)
}

// loadSlowly is load where reading may never end: then the goroutine stays, and no second one
// begins.
func (t *Taker) loadSlowly(ctx context.Context, s *Snapshot, keep bool) learnt {
	if !t.slow.CompareAndSwap(false, true) {
		return learnt{err: unread(event.IncompleteBusy)}
	}
	exe := s.exe
	s.exe = nil // it is the goroutine's
	done := make(chan learnt, 1)
	go func() {
		defer t.slow.Store(false)
		defer exe.close()
		done <- t.load(ctx, exe, keep)
	}()
	select {
	case l := <-done:
		return l
	case <-time.After(slowPatience):
		return learnt{err: unread(event.IncompleteFileSystem)}
	case <-ctx.Done():
		return learnt{err: unread(event.IncompleteStopped)}
	}
}

// unread is why an executable was not read.
type unread event.IncompleteCode

func (u unread) Error() string { return "" }

// load hashes an executable, and copies it if it is to be kept.
func (t *Taker) load(ctx context.Context, exe *executable, keep bool) (l learnt) {
	size := int64(exe.stat.Size)
	if keep {
		l = t.copy(ctx, exe, size)
		if l.unkept == nil || l.sha256 != "" {
			return l
		}
	}
	if size > maxHash {
		l.err = unread(event.IncompleteTooLarge)
		return l
	}
	if ctx.Err() != nil {
		l.err = unread(event.IncompleteStopped)
		return l
	}
	f, err := exe.open()
	if err != nil {
		l.err = err
		return l
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(during.Reader(ctx, f), maxHash+1))
	switch {
	case ctx.Err() != nil:
		l.err = unread(event.IncompleteStopped)
	case err != nil:
		l.err = err
	case n > maxHash:
		l.err = unread(event.IncompleteTooLarge)
	default:
		l.sha256 = hex.EncodeToString(hash.Sum(nil))
	}
	return l
}

func (t *Taker) copy(ctx context.Context, exe *executable, size int64) (l learnt) {
	f, err := exe.open()
	if err != nil {
		return learnt{unkept: &Unkept{Code: event.IncompleteFailed, Detail: err.Error()}}
	}
	defer f.Close()
	l.sha256, l.kept, l.unkept = t.Store.KeepExecutable(during.Reader(ctx, f), size)
	return l
}

// open opens the executable for reading.
func (e *executable) open() (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", e.file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open the executable: %w", err)
	}
	return f, nil
}

// learn puts into the document what was learnt of the executable.
func (s *Snapshot) learn(l learnt) {
	d := &s.doc.Culprit
	if l.sha256 != "" {
		s.doc.Process.Hash = &event.Hash{SHA256: l.sha256}
	}
	if l.kept.Path != "" {
		d.KeptExecutable = &l.kept
	}
	if why := unread(""); errors.As(l.err, &why) {
		d.Miss(event.PartExecutable, event.IncompleteCode(why), "")
	} else if l.err != nil {
		d.Miss(event.PartExecutable, event.IncompleteFailed, l.err.Error())
	}
	if l.unkept != nil {
		d.Miss(event.PartCopy, l.unkept.Code, l.unkept.Detail)
	}
}

// readSome reads a file, at most a MiB of it.
func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// TooLarge says that an executable is larger than what is kept.
func TooLarge(size int64) *Unkept {
	return &Unkept{Code: event.IncompleteTooLarge, Detail: text.Size(size)}
}
