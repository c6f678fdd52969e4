package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
)

// Starter starts a command that dies with us. Closing the lifeline kills what is left of it.
type Starter interface {
	Start(*exec.Cmd) (lifeline io.Closer, err error)
}

// FindStack looks for eu-stack, of elfutils, in PATH. It returns "" if it is not there.
func FindStack() string {
	path, err := exec.LookPath("eu-stack")
	if err != nil {
		return ""
	}
	return path
}

// Bounds of eu-stack, which reads files that the process chose.
const (
	maxFrames    = 128
	maxOutput    = 256 << 10
	maxMemory    = 512 << 20 // of its data, in bytes
	maxStackText = 512       // of a name, in bytes of JSON
)

// stuckAfter is how long eu-stack may take to end after SIGKILL, before it counts as hanging in
// the kernel. The process cannot go on sooner in any case: it is traced until then.
const stuckAfter = time.Second

// stack lets eu-stack print the call stack of the thread. It attaches to the process, and leaves
// it stopped as it was, even if it is killed: the kernel then does that.
func (t *Taker) stack(d *event.Snapshot, r Request, seen sight) {
	c := &d.Culprit
	kind := seen.mayHang()
	switch {
	case t.Stack == "":
		c.Miss(event.PartStack, event.IncompleteNotInstalled, "")
		return
	case kind != "": // eu-stack would hang on it, attached, and no SIGKILL would end it
		c.Miss(event.PartStack, event.IncompleteFileSystem, kind)
		return
	case !seen.mapsRead:
		c.Miss(event.PartStack, event.IncompleteFailed, "its memory map is not known")
		return
	}
	if r.Hurry || !t.mayStack() {
		c.Miss(event.PartStack, event.IncompleteBusy, "")
		return
	}
	out, err := t.runStack(r)
	t.settle(r)
	c.Stack = parseStack(out.stdout)
	said, _, _ := strings.Cut(strings.TrimPrefix(out.stderr, "eu-stack: "), "\n")
	switch {
	case errors.Is(err, errStuck):
		c.Miss(event.PartStack, event.IncompleteStuck, "")
	case errors.Is(err, context.DeadlineExceeded):
		c.Miss(event.PartStack, event.IncompleteTime, "")
	case err != nil && len(c.Stack) > 0:
		c.Miss(event.PartStack, event.IncompletePartly, said)
	case err != nil && said != "":
		c.Miss(event.PartStack, event.IncompleteFailed, said)
	case err != nil:
		c.Miss(event.PartStack, event.IncompleteFailed, err.Error())
	case len(c.Stack) == 0:
		c.Miss(event.PartStack, event.IncompleteFailed, "eu-stack shows nothing")
	}
}

// mayStack reports whether another eu-stack may run, and counts it if so.
func (t *Taker) mayStack() bool {
	select {
	case t.stacks <- struct{}{}:
		return true
	default:
		return false
	}
}

// settle waits until the process stands still again. When its tracer is killed, the kernel wakes
// it, and lets it stop at once, before it runs an instruction of its own. Where all processors are busy that takes longer than
// anybody has to wait for it: it does stop, whoever traces it next.
func (t *Taker) settle(r Request) {
	const stopped, most = 'T', 20 * time.Millisecond
	for began := time.Now(); time.Since(began) < most; time.Sleep(100 * time.Microsecond) {
		if st, err := t.FS.Stat(r.ID.PID); err != nil || st.State == stopped {
			return
		}
	}
}

var errStuck = errors.New("it does not end")

// withoutDownloads makes a directory with an empty libdebuginfod, which cannot be loaded. libdw
// loads it, whatever the environment says (elfutils 0.188), with curl and 25 libraries
// more, to download what it is not to download: 15 of 20 ms, in which the process would stand
// still. If that fails, it only takes longer.
func withoutDownloads(dir string) string {
	dir = filepath.Join(dir, "eu-stack")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	if f, err := os.OpenFile(filepath.Join(dir, "libdebuginfod.so.1"), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	}
	return dir
}

// output is what eu-stack printed.
type output struct{ stdout, stderr string }

// runStack runs eu-stack within the limit.
func (t *Taker) runStack(r Request) (out output, err error) {
	deadline := time.Now().Add(r.Limit)
	cmd := &exec.Cmd{
		Path: t.Stack,
		Args: []string{"eu-stack", "-1", "-m", "-n", strconv.Itoa(maxFrames), "-p", strconv.Itoa(r.TID)},
		Dir:  "/",
		// Nothing is to be looked up on the network (man 8 debuginfod), and it has no home to
		// keep anything in.
		Env: []string{"LC_ALL=C", "DEBUGINFOD_URLS=", "LD_LIBRARY_PATH=" + t.unloaded()},
	}
	started := false
	defer func() {
		if !started { // otherwise its end makes room for another
			<-t.stacks
		}
	}()
	stdout, err := piped(&cmd.Stdout)
	if err != nil {
		return out, err
	}
	defer stdout.Close()
	stderr, err := piped(&cmd.Stderr)
	if err != nil {
		stdout.closeOurs()
		return out, err
	}
	defer stderr.Close()
	lifeline, err := t.Starter.Start(cmd)
	stdout.closeOurs()
	stderr.closeOurs()
	if err != nil {
		return out, fmt.Errorf("start %s: %w", t.Stack, err)
	}
	started = true
	_ = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: maxMemory, Max: maxMemory}, nil)
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		lifeline.Close()
		<-t.stacks
		if r.Left != nil {
			r.Left()
		}
		ended <- err
	}()
	printed := make(chan output, 1)
	go func() {
		errs := make(chan string, 1)
		go func() { errs <- stderr.all() }()
		printed <- output{stdout.all(), <-errs}
	}()
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	select {
	case err = <-ended:
	case <-timeout.C:
		_ = cmd.Process.Kill()
		select {
		case <-ended:
			err = context.DeadlineExceeded
		case <-time.After(stuckAfter):
			return out, errStuck
		}
	}
	select {
	case out = <-printed: // both pipes end with it, as it starts nothing
	case <-time.After(stuckAfter):
	}
	return out, err
}

func piped(to *io.Writer) (*stream, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	*to = w
	return &stream{r, w}, nil
}

// stream is a pipe that a program prints into.
type stream struct{ r, w *os.File }

func (s *stream) closeOurs()   { s.w.Close() }
func (s *stream) Close() error { return s.r.Close() }

// all reads to the end, and keeps the beginning.
func (s *stream) all() string {
	var kept bytes.Buffer
	_, _ = io.CopyN(&kept, s.r, maxOutput)
	_, _ = io.Copy(io.Discard, s.r)
	return kept.String()
}

// parseStack reads what eu-stack -m prints of one thread:
//
//	TID 812:
//	#0  0x00007fbe7e190dd0 __send - /usr/lib/x86_64-linux-gnu/libc.so.6
//	#1  0x00005594eff44e7a - /usr/bin/php8.2
//	#2  0x00007ffd00000000
//
// The names are those of the program: nobody vouches for them.
func parseStack(text string) (frames []event.Frame) {
	for line := range strings.Lines(text) {
		f, ok := parseFrame(strings.TrimRight(line, "\n"))
		if !ok {
			continue
		}
		if frames = append(frames, f); len(frames) == maxFrames {
			break
		}
	}
	return frames
}

func parseFrame(line string) (f event.Frame, ok bool) {
	rest, ok := strings.CutPrefix(line, "#")
	if !ok {
		return f, false
	}
	number, rest, _ := strings.Cut(rest, " ")
	if _, err := strconv.Atoi(number); err != nil {
		return f, false
	}
	f.Address, rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
	if hex, ok := strings.CutPrefix(f.Address, "0x"); !ok || !isHex(hex) {
		return f, false
	}
	function, module, found := strings.Cut(" "+rest, " - /")
	if found {
		module = "/" + module
	} else if function, module, found = strings.Cut(" "+rest, " - ["); found {
		module = "[" + module
	}
	f.Function = event.Cut(strings.TrimSpace(function), maxStackText)
	f.Module = event.Cut(module, maxStackText)
	return f, true
}
