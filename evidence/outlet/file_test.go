package outlet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// events makes the events from one number to another.
func events(from, to uint64) (all []Event) {
	for n := from; n <= to; n++ {
		all = append(all, Event{n, fmt.Sprintf(`{"ecs":{"version":"8.11.0"},"event":{"sequence":%d,"module":"culprit"},"text":"%s"}`+"\n", n, strings.Repeat("x", 100))})
	}
	return all
}

func joined(all []Event) string {
	var b strings.Builder
	for _, e := range all {
		b.WriteString(e.Line)
	}
	return b.String()
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustOpen(t *testing.T, path string) *File {
	t.Helper()
	o, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close(context.Background()) })
	return o
}

func send(t *testing.T, o Outlet, from, to uint64) {
	t.Helper()
	if err := o.Send(context.Background(), events(from, to)); err != nil {
		t.Fatal(err)
	}
	if o.Taken() != to {
		t.Fatalf("taken up to %d, want %d", o.Taken(), to)
	}
}

// A file that is renamed is followed by a new one, and a new culprit knows from either
// what got out.
func TestFileRotates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "events.json")
	o := mustOpen(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	send(t, o, 1, 3)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	o.Close(context.Background())
	o = mustOpen(t, path)
	if o.Taken() != 3 {
		t.Errorf("after the file was renamed %d are known to be out, want 3", o.Taken())
	}
	send(t, o, 4, 5)
	if err := os.Chmod(path, 0o640); err != nil { // for a shipper's group
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	send(t, o, 6, 6)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v; want the mode of the old one", info.Mode(), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	send(t, o, 7, 7)
	o.Close(context.Background())
	if o = mustOpen(t, path); o.Taken() != 7 {
		t.Errorf("%d are known to be out, want 7", o.Taken())
	}
	for name, want := range map[string]string{path + ".1": joined(events(1, 3)), path + ".2": joined(events(4, 5)), path: joined(events(7, 7))} {
		if got := read(t, name); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

// What was written of a line when culprit was killed is cut off.
func TestFileRepairs(t *testing.T) {
	t.Parallel()
	whole := joined(events(1, 2))
	third := events(3, 3)[0].Line
	for cut := range len(third) {
		path := filepath.Join(t.TempDir(), "events.json")
		if err := os.WriteFile(path, []byte(whole+third[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		o := mustOpen(t, path)
		if got := read(t, path); got != whole || o.Taken() != 2 {
			t.Fatalf("cut at %d: up to %d, %q", cut, o.Taken(), got)
		}
		o.Close(context.Background())
	}
}

// What others wrote behind our events does not end the hunt, and neither does what a
// second culprit calls its file.
func TestFileOfOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(path, []byte(joined(events(1, 2))+"{}\nnote\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := mustOpen(t, path)
	if o.Taken() != 2 {
		t.Errorf("up to %d, want 2", o.Taken())
	}
	send(t, o, 3, 3)
	o.Close(context.Background())
	if err := os.Rename(path, path+"-second"); err != nil {
		t.Fatal(err)
	}
	if o = mustOpen(t, path); o.Taken() != 0 {
		t.Errorf("the file of another one was taken for ours: up to %d", o.Taken())
	}
}

// What is no file of events is never touched.
func TestFileRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		make func(path string) error
		says string
	}{
		"passwd":   {func(p string) error { return os.WriteFile(p, []byte("root:x:0:0\n"), 0o600) }, "does not end with an event"},
		"no line":  {func(p string) error { return os.WriteFile(p, []byte("something"), 0o600) }, "does not end with an event"},
		"big":      {func(p string) error { return os.WriteFile(p, make([]byte, tailSize+1), 0o600) }, "does not end with an event"},
		"open":     {func(p string) error { return os.WriteFile(p, nil, 0o622) }, "others could write"},
		"link":     {func(p string) error { return os.Symlink("/etc/passwd", p) }, "too many levels"},
		"fifo":     {func(p string) error { return unix.Mkfifo(p, 0o600) }, "ordinary file"},
		"a/b/file": {func(string) error { return nil }, "make its directory"},
	} {
		path := filepath.Join(dir, name)
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, map[bool]os.FileMode{true: 0o622, false: 0o600}[name == "open"])
		before, _ := os.ReadFile(path + "/../passwd")
		if o, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want an error that says %q", name, o, err, c.says)
		}
		if after, _ := os.ReadFile(path + "/../passwd"); string(after) != string(before) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	path := filepath.Join(dir, "events.json")
	mustOpen(t, path)
	if _, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), "another culprit") {
		t.Errorf("a second one: %v", err)
	}
}

// On a disk that is full whole lines get out and the rest does not; with room again it
// goes on behind them.
func TestFileDiskFull(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	dir := t.TempDir()
	n.Do(func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
			t.Error(err)
			return
		}
		path := filepath.Join(dir, "events.json")
		o, err := OpenFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer o.Close(context.Background())
		all := events(1, 100)
		if err := o.Send(context.Background(), all); err == nil {
			t.Errorf("it all went onto the disk")
		}
		first := o.Taken()
		if got, _ := os.ReadFile(path); first == 0 || first == 100 || string(got) != joined(all[:first]) {
			t.Errorf("%d events got out, the file is %q", first, got)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=1m"); err != nil {
			t.Error(err)
		}
		if err := o.Send(context.Background(), all[first:]); err != nil || o.Taken() != 100 {
			t.Errorf("with room again: %d, %v", o.Taken(), err)
		}
		if got, _ := os.ReadFile(path); string(got) != joined(all) {
			t.Errorf("the file is %q", got)
		}
	})
}

// Whatever a file holds, opening it does not fail but in good order, and what stays is
// whole lines.
func FuzzRepair(f *testing.F) {
	f.Add([]byte(joined(events(1, 2))))
	f.Add([]byte("{\"ecs\":"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := OpenFile(path)
		after := read(t, path)
		if err != nil {
			if after != string(b) {
				t.Errorf("refused and changed: %q", after)
			}
			return
		}
		o.Close(context.Background())
		if !strings.HasPrefix(string(b), after) || after != "" && !strings.HasSuffix(after, "\n") {
			t.Errorf("%q became %q", b, after)
		}
	})
}
