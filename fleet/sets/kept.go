package sets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"culprit/evidence/directory"
	"culprit/internal/config"
	"culprit/internal/text"
)

// A Dir is the directory in which a host keeps its sets and their lists, so that it has them after a restart, with or without the
// broker. It is root's alone.
type Dir struct{ path string }

// In returns the directory of a host's sets in its evidence directory, to be read or opened.
func In(evidence string) string { return filepath.Join(evidence, "fleet") }

// Kept returns the rules of the sets that were in force when they were kept in a directory: what the daemon of that host has in force
// beside its configuration. It changes nothing there.
func Kept(path string, t Trust) (rules []config.Rule, err error) {
	d := Dir{path}
	files, err := os.ReadDir(d.sets())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the fleet's sets: %w", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || !setName.MatchString(name) {
			continue
		}
		k, err := d.read(name)
		if err != nil {
			return nil, fmt.Errorf("read the fleet's set %s: %w", name, err)
		}
		if k.InForce == nil {
			continue
		}
		if s, err := t.Verify(name, *k.InForce); err == nil {
			rules = append(rules, d.Rules(s)...)
		}
	}
	return rules, nil
}

// OpenDir opens the directory, and makes it if it is not there.
func OpenDir(path string) (Dir, error) {
	d := Dir{path}
	for _, dir := range []string{d.sets(), d.lists()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return d, fmt.Errorf("make the directory of the fleet's sets: %w", err)
		}
	}
	return d, nil
}

func (d Dir) sets() string  { return filepath.Join(d.path, "sets") }
func (d Dir) lists() string { return filepath.Join(d.path, "lists") }

// Rules returns the rules of a set, with the paths of its lists in the directory.
func (d Dir) Rules(s *Set) []config.Rule { return s.placed(d.lists()) }

// List returns the path of a list.
func (d Dir) List(l List) string { return filepath.Join(d.lists(), l.SHA256, l.Name) }

// Ready reports whether all lists of a set are there.
func (d Dir) Ready(s *Set) bool {
	return !slices.ContainsFunc(s.Lists, func(l List) bool { return !d.Has(l) })
}

// Has reports whether a list is there. Its bytes were compared when it came, and when the directory was loaded.
func (d Dir) Has(l List) bool {
	info, err := os.Stat(d.List(l))
	return err == nil && info.Mode().IsRegular() && info.Size() == l.Size
}

// Keep writes what r holds as the list, if that is what the set says of it: size and SHA-256. Nobody sees a part of it. It leaves at
// least so much of the disk free.
func (d Dir) Keep(l List, r io.Reader, free int64) error {
	if err := d.room(l.Size, free); err != nil {
		return err
	}
	dir := filepath.Dir(d.List(l))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the list %s: %w", l.Name, err)
	}
	return write(d.List(l), func(f *os.File) error {
		hash := sha256.New()
		n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(r, l.Size+1))
		switch got := hex.EncodeToString(hash.Sum(nil)); {
		case n > l.Size:
			return fmt.Errorf("the list %s is longer than the %d bytes that were signed", l.Name, l.Size)
		case err != nil:
			return fmt.Errorf("fetch the list %s: %w", l.Name, err)
		case n < l.Size || got != l.SHA256:
			return fmt.Errorf("the list %s is not the one that was signed: %d bytes with the SHA-256 %s", l.Name, n, got)
		}
		return nil
	})
}

func (d Dir) room(size, free int64) error {
	left, err := directory.Free(d.path)
	if err != nil {
		return err
	}
	if left-size < free {
		return fmt.Errorf("%s has %s free, and evidence.min_free is %s: no room for a list of %s", d.path, text.Size(left), text.Size(free), text.Size(size))
	}
	return nil
}

// kept is an entry on disk.
type kept struct {
	Newest  Signed  `json:"newest"`
	InForce *Signed `json:"in_force,omitempty"`
	Over    bool    `json:"over,omitempty"`
	Forever bool    `json:"forever,omitempty"`
	Tries   int     `json:"tries,omitempty"`
}

// Save writes what the book knows of a name; what it has forgotten is removed. The name may be anything: who has the servers chooses those
// of places.
func (d Dir) Save(b *Book, name string) error {
	if !setName.MatchString(name) {
		return nil
	}
	path := filepath.Join(d.sets(), name+".json")
	e := b.entries[name]
	if e == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the set %s: %w", name, err)
		}
		return nil
	}
	k := kept{Newest: e.newestAs, Over: e.over, Forever: e.forever, Tries: e.tries}
	switch {
	case e.inForce != nil:
		k.InForce = &e.forceAs
	case e.before != nil:
		k.InForce = &e.beforeAs
	}
	doc, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("keep the set %s: %w", name, err)
	}
	return write(path, func(f *os.File) error {
		_, err := f.Write(doc)
		return err
	})
}

// Load reads what was saved into a book, with the sets that were in force as sets to be put in force. A set that cannot be read, or
// whose key is no longer one of fleet.keys, is dropped: wrong says why, by name. Lists that have changed on the disk are removed.
func (d Dir) Load(b *Book, now time.Time) (wrong map[string]error, err error) {
	wrong = map[string]error{}
	files, err := os.ReadDir(d.sets())
	if err != nil {
		return nil, fmt.Errorf("read the fleet's sets: %w", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || !setName.MatchString(name) {
			_ = os.Remove(filepath.Join(d.sets(), f.Name())) // what was being written when culprit was killed
			continue
		}
		if err := d.load(b, name); err != nil {
			wrong[name] = err
			_ = os.Remove(filepath.Join(d.sets(), f.Name()))
		}
	}
	known := b.Names()
	b.forget(now)
	for _, name := range known {
		if b.entries[name] == nil {
			_ = d.Save(b, name)
		}
	}
	d.clean(b, d.same)
	return wrong, nil
}

func (d Dir) read(name string) (k kept, err error) {
	doc, err := os.ReadFile(filepath.Join(d.sets(), name+".json"))
	if err == nil {
		err = json.Unmarshal(doc, &k)
	}
	return k, err
}

func (d Dir) load(b *Book, name string) error {
	k, err := d.read(name)
	if err != nil {
		return err
	}
	e := &entry{newestAs: k.Newest, over: k.Over, forever: k.Forever, tries: k.Tries}
	if e.newest, err = b.trust.Verify(name, k.Newest); err != nil {
		return err
	}
	b.entries[name] = e
	if k.InForce != nil && !bytes.Equal(k.InForce.Set, k.Newest.Set) {
		if s, err := b.trust.Verify(name, *k.InForce); err == nil {
			e.before, e.beforeAs = s, *k.InForce
		}
	}
	return nil
}

// Clean removes the lists that no set of the book has.
func (d Dir) Clean(b *Book) { d.clean(b, nil) }

// clean removes the lists that no set of the book has. With good, nobody fetches any: then it also removes those that are not good,
// and what was being written when culprit was killed.
func (d Dir) clean(b *Book, good func(List) bool) {
	want, dirs := map[string]List{}, map[string]bool{}
	for _, e := range b.entries {
		for _, s := range []*Set{e.newest, e.inForce, e.before} {
			if s == nil {
				continue
			}
			for _, l := range s.Lists {
				want[d.List(l)], dirs[l.SHA256] = l, true
			}
		}
	}
	all, _ := os.ReadDir(d.lists())
	for _, dir := range all {
		at := filepath.Join(d.lists(), dir.Name())
		files, _ := os.ReadDir(at)
		for _, f := range files {
			path := filepath.Join(at, f.Name())
			l, wanted := want[path]
			switch {
			case wanted && (good == nil || good(l)):
			case dirs[dir.Name()] && good == nil: // it may be on its way
			default:
				_ = os.Remove(path)
			}
		}
		if !dirs[dir.Name()] {
			_ = os.Remove(at)
		}
	}
}

// same reports whether the bytes of a list are those that were signed.
func (d Dir) same(l List) bool {
	sum, size, err := Sum(d.List(l))
	return err == nil && sum == l.SHA256 && size == l.Size
}

// Sum returns the SHA-256 of a file, and its size.
func Sum(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	hash := sha256.New()
	if size, err = io.Copy(hash, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

// write writes a file as a whole or not at all.
func write(path string, fill func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".unfinished-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), os.Rename(f.Name(), path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
