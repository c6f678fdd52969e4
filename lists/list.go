// Package lists has the lists of domains that rules name: it reads them, keeps what they hold as a [set.Set] for each
// rule, and notices when a file changes.
package lists

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/lists/format"
	"culprit/lists/set"
)

// A List is what one rule looks for: all its files, compiled. It never changes.
type List struct {
	Rule  string
	Files []File
	Set   *set.Set
	// Loaded is when that was, Took for how long.
	Loaded time.Time
	Took   time.Duration

	config config.Rule // what it was made of
}

// A File is one of the files of a rule, as it was read.
type File struct {
	Path    string
	Except  bool // all of its names are exceptions
	Changed time.Time
	Size    int64
	format.Stats

	id fs.FileInfo
}

// Load reads the files of a rule, and compiles what they hold into a file without a name in the directory dir. The errors of all
// files are in the error. It ends early with the context.
//
// If there is no room in dir, the directory for temporary files is taken: to hunt matters more than where the names are.
func Load(ctx context.Context, r config.Rule, dir string) (*List, error) {
	l, err := load(ctx, r, dir)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if other, otherErr := load(ctx, r, os.TempDir()); otherErr == nil {
			return other, nil
		}
	}
	return l, err
}

func load(ctx context.Context, r config.Rule, dir string) (*List, error) {
	start := time.Now()
	paths, wrong := expand(r)
	var errs []error
	for _, w := range wrong {
		errs = append(errs, w)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("rule %s: %w", r.Name, errors.Join(errs...))
	}
	how, err := format.Parse(r.Format)
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", r.Name, err)
	}
	b, err := set.NewBuilder(dir)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	l := &List{Rule: r.Name, config: r}
	for _, p := range paths {
		as := how
		if p.except {
			as = format.Auto // exceptions are most often ours, and plain
		}
		f, err := read(ctx, b, p, as)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.path, err))
		}
		l.Files = append(l.Files, f)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("rule %s: %w", r.Name, errors.Join(errs...))
	}
	if l.Set, err = compile(b, dir); err != nil {
		return nil, fmt.Errorf("rule %s: %w", r.Name, err)
	}
	l.Loaded, l.Took = time.Now(), time.Since(start)
	return l, nil
}

// read adds the entries of a file.
func read(ctx context.Context, b *set.Builder, p place, how format.Format) (f File, err error) {
	f = File{Path: p.path, Except: p.except}
	file, err := open(p.path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	if f.id, err = file.Stat(); err != nil {
		return f, err
	}
	f.Changed, f.Size = f.id.ModTime(), f.id.Size()
	if err := b.File(p.path); err != nil {
		return f, err
	}
	f.Stats, err = format.Read(file, how, func(e format.Entry) error {
		if e.Line%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		e.Except = e.Except || p.except
		return b.Add(e)
	})
	return f, err
}

func compile(b *set.Builder, dir string) (*set.Set, error) {
	file, err := set.Temporary(dir)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := b.Build(file); err != nil {
		return nil, err
	}
	return set.Open(file)
}

// LoadAll loads the lists of all rules that have some, by the names of the rules. Those in old whose files have not
// changed since are kept. So is one that cannot be loaded any more: kept says why. The error is about rules without a list to
// keep.
func LoadAll(ctx context.Context, rules []config.Rule, old map[string]*List, dir string) (all map[string]*List, kept map[string]error, err error) {
	all, kept = map[string]*List{}, map[string]error{}
	var errs []error
	loaded := false
	for _, r := range rules {
		if !r.IsList() {
			continue
		}
		before := old[r.Name]
		if before != nil && before.fresh(r) {
			all[r.Name] = before
			continue
		}
		l, err := Load(ctx, r, dir)
		loaded = true
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err == nil:
			all[r.Name] = l
		case before != nil:
			all[r.Name] = before
			kept[r.Name] = err
		default:
			errs = append(errs, err)
		}
	}
	if loaded {
		debug.FreeOSMemory() // compiling takes ten times of what stays
	}
	return all, kept, errors.Join(errs...)
}

// fresh reports whether the rule would be made of the same files now.
func (l *List) fresh(r config.Rule) bool {
	if r.Format != l.config.Format {
		return false
	}
	paths, wrong := expand(r)
	return len(wrong) == 0 && slices.EqualFunc(paths, l.Files, func(p place, f File) bool {
		now, err := os.Stat(p.path)
		return err == nil && p.path == f.Path && p.except == f.Except && os.SameFile(now, f.id) &&
			now.Size() == f.Size && now.ModTime().Equal(f.Changed)
	})
}

// Sets returns the sets of lists.
func Sets(all map[string]*List) map[string]*set.Set {
	sets := map[string]*set.Set{}
	for name, l := range all {
		sets[name] = l.Set
	}
	return sets
}

// Entries returns the number of different entries of the rule, and of exceptions.
func (l *List) Entries() (listed, excepted int) { return l.Set.Entries() }

// Shrunk reports whether less than half of the entries are left that the rule had before. What publishes a list may be broken
// without saying so.
func (l *List) Shrunk(before *List) bool {
	if before == nil {
		return false
	}
	now, _ := l.Entries()
	was, _ := before.Entries()
	return 2*now < was
}
