package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// Who can change an executable: by its owner and mode, and by those of each directory above.
func TestPlaced(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	// The directories above must be root's alone.
	base, err := os.MkdirTemp("/var/lib", "culprit-test-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "a")
	file := filepath.Join(dir, "b")
	k := New(Tools{FS: proc.Default})
	for name, c := range map[string]struct {
		change func()
		want   event.ReplaceableCode
		detail string
	}{
		"root's":                       {func() {}, "", ""},
		"a user's":                     {func() { os.Chown(file, 4242, 0) }, event.ReplaceableWritable, file},
		"everybody may write":          {func() { os.Chmod(file, 0o757) }, event.ReplaceableWritable, file},
		"a group may write":            {func() { os.Chmod(file, 0o775) }, event.ReplaceableWritable, file},
		"in a user's directory":        {func() { os.Chown(dir, 4242, 0) }, event.ReplaceableWritable, dir},
		"in a directory for everybody": {func() { os.Chmod(dir, 0o777) }, event.ReplaceableWritable, dir},
		"in a sticky directory":        {func() { os.Chmod(dir, os.ModeSticky|0o777) }, "", ""},
		"a user's sticky directory":    {func() { os.Chown(dir, 4242, 0); os.Chmod(dir, os.ModeSticky|0o700) }, event.ReplaceableWritable, dir},
		"deleted":                      {func() { os.Remove(file) }, event.ReplaceableDeleted, ""},
		"moved away":                   {func() { os.Rename(file, file+"2"); os.WriteFile(file, nil, 0o755); os.Remove(file + "2") }, event.ReplaceableDeleted, ""},
		"another has its place":        {func() { os.Link(file, file+"2"); os.Remove(file); os.WriteFile(file, nil, 0o755) }, event.ReplaceableUnknown, "its path leads to another file"},
		"its directory has moved":      {func() { os.Rename(dir, dir+"2") }, event.ReplaceableUnknown, "no such file or directory"},
	} {
		os.RemoveAll(base)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(file, []byte("x"), 0o755)); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		c.change()
		n, err := look(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		e := executable{file: f, node: n}
		mounts, root := k.mountsOf(os.Getpid(), n.mount)
		got, mayHang := e.placed(file, root, mounts)
		e.close()
		switch {
		case mayHang != "":
			t.Errorf("%s: reading it may hang: %s", name, mayHang)
		case got == nil && c.want == "":
		case got == nil || got.Code != c.want || !strings.Contains(got.Detail, c.detail):
			t.Errorf("%s: %+v, want %s %s", name, got, c.want, c.detail)
		}
		if name == "a user's" { // on FUSE nobody looks any further
			m := mounts[n.mount]
			m.Kind = "fuse.sshfs"
			mounts[n.mount] = m
			if got, mayHang := e.placed(file, root, mounts); got == nil || got.Code != event.ReplaceableFileSystem || mayHang != "fuse.sshfs" {
				t.Errorf("on FUSE: %+v, %q", got, mayHang)
			}
		}
	}
}

// A step that hangs keeps nobody: what was read is there, the rest is said to be late. When as
// many hang as may, nothing more is read; of one user, these are half of all.
func TestHangingSteps(t *testing.T) {
	t.Parallel()
	k := New(Tools{FS: proc.Default})
	release := make(chan struct{})
	const limit = 300 * time.Millisecond // a busy machine ends the first step by then
	steps := []step{
		{[]event.SnapshotPart{event.PartFiles}, func() put { return func(d *event.Snapshot, _ *sight) { d.Culprit.Cgroup = "/x" } }},
		{[]event.SnapshotPart{event.PartMaps}, func() put { <-release; return func(*event.Snapshot, *sight) { t.Error("too late") } }},
		{[]event.SnapshotPart{event.PartArgs, event.PartMaps}, func() put { t.Error("nobody wants it any more"); return nil }},
	}
	for i, user := range slices.Concat(slices.Repeat([]string{"1"}, maxOfUser+1), slices.Repeat([]string{"2"}, maxReading-maxOfUser), []string{"3"}) {
		d := event.Snapshot{User: event.User{ID: user}}
		k.collect(&d, steps, limit)
		want, cgroup := "maps:time: args:time:", "/x"
		if i == maxOfUser || user == "3" {
			want, cgroup = "files:busy: maps:busy: args:busy:", ""
		}
		if got := missing(d); got != want || d.Culprit.Cgroup != cgroup {
			t.Errorf("%d: incomplete %q, want %q", i, got, want)
		}
	}
	close(release)
	wait(t, "all goroutines end", func() bool {
		k.reading.mu.Lock()
		defer k.reading.mu.Unlock()
		return k.reading.all == 0 && len(k.reading.taken) == 0
	})
}

// store is a Store that keeps nothing, for a reason.
type store struct {
	memory
	why Unkept
}

func (s *store) KeepExecutable(io.Reader, int64) (string, event.File, *Unkept) {
	return "", event.File{}, &s.why
}

// An executable that is not kept has a hash all the same. One of a file system that may never
// answer is read by a goroutine that nobody waits for.
func TestReading(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("program"), 0o700); err != nil {
		t.Fatal(err)
	}
	hung := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(hung, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &store{memory: *newMemory(), why: Unkept{Code: event.IncompleteOff}}
	k := New(Tools{FS: proc.Default, Store: s})
	read := func(ctx context.Context, path, mayHang string) event.Snapshot {
		f, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := look(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		one := &Snapshot{taker: k, exe: &executable{file: f, node: n, mayHang: mayHang}}
		one.doc.Culprit.Replaceable = &event.Replaceable{Code: event.ReplaceableWritable}
		k.read(ctx, one)
		return s.docs[len(s.docs)-1]
	}
	want := digest([]byte("program"))
	for range 2 {
		if got := read(t.Context(), file, ""); got.Process.Hash == nil || got.Process.Hash.SHA256 != want || missing(got) != "copy:off:" {
			t.Errorf("hash %v, incomplete %s", got.Process.Hash, missing(got))
		}
	}
	if got := read(t.Context(), file, "fuse.x"); got.Process.Hash == nil || missing(got) != "copy:off:" {
		t.Errorf("slowly: hash %v, incomplete %s", got.Process.Hash, missing(got))
	}
	wait(t, "the goroutine ends", func() bool { return !k.slow.Load() })
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if got := read(ctx, hung, "fuse.x"); missing(got) != "executable:stopped:" {
		t.Errorf("one that hangs: incomplete %s", missing(got))
	}
	if got := read(t.Context(), file, "fuse.x"); missing(got) != "executable:busy:" {
		t.Errorf("while one hangs: incomplete %s", missing(got))
	}
	w, err := os.OpenFile(hung, os.O_WRONLY, 0) // lets it go
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	wait(t, "the goroutine ends", func() bool { return !k.slow.Load() })
}

// What waits for its executable to be read is recorded when culprit ends, and what has no room
// at once.
func TestRecordedAtTheEnd(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	id := stopped(t, exec.CommandContext(t.Context(), "sleep", "1000"))
	m := newMemory()
	k := New(Tools{FS: proc.Default, Users: new(proc.Users), Store: m})
	for range maxDue + 1 {
		k.Take(Request{ID: id, Limit: 10 * time.Second}).Record(true)
	}
	if len(m.docs) != 1 || !strings.Contains(missing(m.docs[0]), "executable:busy:") {
		t.Fatalf("%d are recorded while nobody reads", len(m.docs))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	k.Run(ctx)
	if len(m.docs) < maxDue+1 {
		t.Errorf("%d are recorded of %d", len(m.docs), maxDue+1)
	}
	for _, s := range m.docs[1:] {
		if got := missing(s); s.Final() && !strings.Contains(got, "executable:stopped:") {
			t.Errorf("incomplete: %s", got)
		}
	}
	if len(m.copies) > 0 {
		t.Errorf("%d copies", len(m.copies))
	}
}
