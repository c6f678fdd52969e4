package lists

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"culprit/internal/bell"
	"culprit/internal/config"
)

// A Watcher notices when a list has changed: it was closed by who wrote it, or another file has taken its name, or one
// came or went that a pattern matches. It watches directories, as most programs write a new file and give that the name
// of the old one. (inotify(7) itself, as fsnotify does not tell that a file was closed, and a list would be read with each write.)
type Watcher struct {
	fd      int
	inotify *os.File // the same
	changed bell.Bell
	watches map[string]int                     // of directories; only Watch has it
	names   atomic.Pointer[map[int32][]string] // by the number of the watch: patterns of what may be a list
}

// A wish is what is to be watched in a directory.
type wish struct {
	events uint32
	names  []string // patterns
}

// NewWatcher makes a watcher that watches nothing yet.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch lists: %w", err)
	}
	w := &Watcher{fd: fd, inotify: os.NewFile(uintptr(fd), "inotify"), changed: bell.New()}
	w.names.Store(new(map[int32][]string))
	return w, nil
}

// Changed returns a channel that has an element when a file that is or may be a list has changed, or many have.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Watch watches the directories of the lists in force, and no others; none, if the configuration does not want that. What
// happened in one before it was watched counts as a change. All calls come from one goroutine.
func (w *Watcher) Watch(c *config.Config, all map[string]*List) error {
	want := map[string]*wish{}
	if c.Lists.Watch {
		for _, l := range all {
			l.watch(want)
		}
	}
	var errs []error
	old, names, added := w.watches, map[int32][]string{}, false
	w.watches = map[string]int{}
	for dir, wish := range want {
		watch, err := unix.InotifyAddWatch(w.fd, dir, wish.events|unix.IN_ONLYDIR|unix.IN_MASK_ADD)
		if err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
			continue
		}
		w.watches[dir] = watch
		names[int32(watch)] = append(names[int32(watch)], wish.names...)
		if before, had := old[dir]; !had || before != watch {
			added = true
		}
	}
	for _, watch := range old {
		if _, still := names[int32(watch)]; !still {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(watch)) // it fails if the directory is gone
		}
	}
	w.names.Store(&names)
	if added {
		w.changed.Ring()
	}
	return errors.Join(errs...)
}

// watch adds what is to be watched for a list.
func (l *List) watch(want map[string]*wish) {
	const renamed = unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	in := func(dir string, events uint32, name string) {
		if want[dir] == nil {
			want[dir] = new(wish)
		}
		want[dir].events |= events
		want[dir].names = append(want[dir].names, name)
	}
	add := func(path string) {
		dir := filepath.Dir(path)
		if strings.ContainsAny(dir, `*?[\`) {
			return // the directories that it matches are watched
		}
		in(dir, renamed|unix.IN_CLOSE_WRITE, filepath.Base(path))
		in(filepath.Dir(dir), renamed, filepath.Base(dir)) // the directory may be replaced
	}
	for _, pattern := range slices.Concat(l.config.List, l.config.Except) {
		add(pattern)
	}
	for _, f := range l.Files {
		add(f.Path)
		if real, err := filepath.EvalSymlinks(f.Path); err == nil {
			add(real)
		}
	}
}

// Run watches until the context ends.
func (w *Watcher) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { w.inotify.Close() })()
	buf := make([]byte, 64<<10)
	for {
		n, err := w.inotify.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch lists: %w", err)
		}
		if w.relevant(buf[:n]) {
			w.changed.Ring()
		}
	}
}

// relevant reports whether one of the events is about what may be a list, or about events that were lost.
func (w *Watcher) relevant(events []byte) bool {
	names := *w.names.Load()
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(unsafe.SliceData(events)))
		end := unix.SizeofInotifyEvent + int(e.Len)
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:end]), "\x00")
		events = events[end:]
		if e.Mask&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		for _, pattern := range names[e.Wd] {
			// The hidden are being written.
			if hit, _ := filepath.Match(pattern, name); name == pattern || hit && !strings.HasPrefix(name, ".") {
				return true
			}
		}
	}
	return false
}
