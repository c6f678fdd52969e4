package lists

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culprit/internal/config"
)

// Each way in which a list changes is noticed, and what has nothing to do with it is not.
func TestWatch(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	if err := os.Mkdir(filepath.Join(d.dir, "lists"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.write("lists/a.txt", "one.example\n")
	all, _ := d.load(d.rule("lists/*.txt"), nil)
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Lists: config.Lists{Watch: true}}
	if err := w.Watch(c, all); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- w.Run(ctx) }()
	noticed := func(what string) {
		t.Helper()
		select {
		case <-w.Changed():
		case <-time.After(30 * time.Second):
			t.Errorf("%s was not noticed", what)
		}
	}
	noticed("what happened before")
	d.write("lists/a.txt", "two.example\n")
	noticed("a file that was written")
	d.replace("lists/a.txt", "three.example\n")
	noticed("a file that took its name")
	d.write("lists/b.txt", "four.example\n")
	noticed("a new file")
	os.Remove(filepath.Join(d.dir, "lists/b.txt"))
	noticed("a file that went")
	os.Rename(filepath.Join(d.dir, "lists"), filepath.Join(d.dir, "old"))
	noticed("a directory that went")
	os.Mkdir(filepath.Join(d.dir, "new"), 0o700)
	d.write("new/a.txt", "five.example\n")
	os.Rename(filepath.Join(d.dir, "new"), filepath.Join(d.dir, "lists"))
	noticed("a directory that took its name")
	again := func(what string) {
		t.Helper()
		if err := w.Watch(c, all); err != nil {
			t.Fatal(err)
		}
		noticed(what)
	}
	again("that it is another directory")
	d.write("lists/a.txt", "six.example\n")
	noticed("a file in the new directory")
	// What has nothing to do with the list comes before what has, and is not told of.
	for range 100 {
		d.write("lists/b.rpz", "six.example\n")
		d.write("lists/.c.txt", "six.example\n")
		d.write("d.txt", "six.example\n")
	}
	if len(w.Changed()) > 0 {
		t.Error("other files were taken for lists")
	}
	if err := w.Watch(&config.Config{}, all); err != nil {
		t.Fatal(err)
	}
	d.write("lists/a.txt", "seven.example\n")
	if n := len(w.watches); n != 0 {
		t.Errorf("%d directories are watched, though nobody wants that", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
