package evidence

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// Nothing that others could read is ever made, not for a moment, even if whoever
// starts culprit has no umask.
func TestPrivateFiles(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := filepath.Join(h.Dir, "private")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	seen := watchFiles(t, dir)
	env := append(os.Environ(), "TMPDIR="+dir, "SQLITE_TMPDIR="+dir)
	culprit := func(args ...string) *exec.Cmd {
		cmd := exec.Command("sh", append([]string{"-c", `umask 0; exec "$@"`, "sh", harness.Programs.Culprit}, args...)...)
		cmd.Env = env
		return cmd
	}
	evidence := filepath.Join(dir, "evidence")
	h.Started++
	config := h.ConfigureIn(evidence, harness.LongWindow+"log: {format: json, level: debug}\n")
	d := &harness.Daemon{Process: h.StartCommandAs(0, culprit("run", "-c", config)), Host: h, Evidence: evidence}
	d.AwaitLog("ready")
	s := d.Captured(harness.NewUID())
	s.Spawn(harness.Programs.OffenderC + " -n y.badzone.test -a 0")
	capture := d.Hit("y.badzone.test").Culprit.Capture.ID
	for _, pid := range []int{d.PID, d.Thawer()} {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(status), "Umask:\t0077\n") {
			t.Errorf("process %d: %v\n%s", pid, err, status)
		}
	}
	d.Stop()
	for _, args := range [][]string{
		{"prune"},
		{"prove"},
		{"report", capture, "--output", filepath.Join(dir, "report.html")},
		{"export", capture, "--output", filepath.Join(dir, "export.tar.gz")},
	} {
		h.Command(culprit(append(args, "--evidence", evidence)...)).Must(t)
	}
	files, open := seen()
	for _, want := range []string{"catalogue.db", "catalogue.db-wal", ".strace", "packets.pcapng.tmp", ".strace.zst", "report.html", "export.tar.gz"} {
		if !strings.Contains(files, want) {
			t.Errorf("no file %s was seen: the test is blind", want)
		}
	}
	if open != "" {
		t.Errorf("others could look into:\n%s", open)
	}
}

// watchFiles looks at every file that is made below a directory (man 7 inotify), until
// the function that it returns is called. That tells which files there were, and which
// of them had permissions for others.
func watchFiles(t *testing.T, dir string) (seen func() (files, open string)) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	news := os.NewFile(uintptr(fd), "inotify")
	var files, open strings.Builder
	dirs := map[int32]string{}
	var look func(path string)
	watch := func(path string) {
		wd, err := unix.InotifyAddWatch(fd, path, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_MODIFY)
		if err != nil {
			return // it is gone
		}
		dirs[int32(wd)] = path
		entries, _ := os.ReadDir(path)
		for _, e := range entries { // made before the watch
			look(filepath.Join(path, e.Name()))
		}
	}
	look = func(path string) {
		fmt.Fprintln(&files, path)
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return
		}
		if info.Mode().Perm()&0o077 != 0 {
			fmt.Fprintln(&open, info.Mode(), path)
		}
		if info.IsDir() {
			watch(path)
		}
	}
	watch(dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := news.Read(buf)
			if err != nil {
				return
			}
			for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
				wd := int32(binary.NativeEndian.Uint32(rest))
				size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
				if name := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:size], "\x00")); name != "" && name != filepath.Base(dir) {
					look(filepath.Join(dirs[wd], name))
				}
				rest = rest[size:]
			}
		}
	}()
	return func() (string, string) {
		news.Close()
		<-done
		return files.String(), open.String()
	}
}
