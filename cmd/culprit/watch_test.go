package main

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/evidence"
)

// watchDir passes the evidence directory to the process that TestWatchScreen starts.
const watchDir = "CULPRIT_TEST_WATCH"

func TestWatchChild(t *testing.T) {
	dir := os.Getenv(watchDir)
	if dir == "" {
		t.Skip("for TestWatchScreen")
	}
	ctx, stop := signalContext()
	defer stop()
	cmd := newWatch()
	cmd.SetArgs([]string{"--evidence", dir})
	if err := cmd.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	os.Exit(0) // without any output of the test
}

// A real terminal shows a screen that follows its size, and q and signals leave the terminal as
// it was.
func TestWatchScreen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, end := range map[string]func(terminal *os.File, p *os.Process) error{
		"q":      func(f *os.File, _ *os.Process) error { _, err := f.WriteString("xq"); return err },
		"Ctrl-C": func(f *os.File, _ *os.Process) error { _, err := f.WriteString("\x03"); return err },
		"TERM":   func(_ *os.File, p *os.Process) error { return p.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := pty(t)
			before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			resize := func(columns, rows uint16) {
				if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
					t.Fatal(err)
				}
			}
			resize(100, 20)
			cmd := exec.Command(os.Args[0], "-test.run=^TestWatchChild$")
			cmd.Env = append(os.Environ(), watchDir+"="+dir, "TERM=xterm")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			var shown bytes.Buffer
			until := func(what string) {
				t.Helper()
				b := make([]byte, 4096)
				for !bytes.Contains(shown.Bytes(), []byte(what)) {
					n, err := master.Read(b)
					if err != nil {
						t.Fatalf("%v before %q came:\n%q", err, what, &shown)
					}
					shown.Write(b[:n])
				}
				shown.Next(bytes.Index(shown.Bytes(), []byte(what)) + len(what))
			}
			until("\x1b[?1049h")
			until("q quits\x1b[0m")
			until("STRACES  SIZE  STATE\x1b[0m")
			resize(30, 4)
			until("STARTED  CAPTURE  USER  LEVEL…\x1b[0m\x1b[K\x1b[J")
			if err := end(master, cmd.Process); err != nil {
				t.Fatal(err)
			}
			until("\x1b[?7h\x1b[?25h\x1b[?1049l")
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v, is %+v, %v", before, after, err)
			}
		})
	}
}

// pty makes a pseudo terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
