package selftest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A daemon is a child process running culprit run.
type daemon struct {
	cmd    *exec.Cmd
	stderr io.ReadCloser
	done   chan struct{} // closed when it has ended and its log has been read to the end
	err    error         // how it ended, once it is done

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed with the next line
}

// startDaemon starts culprit run in the namespace of the calling thread. Its log is also copied
// to a file.
func startDaemon(program, config, logFile string, env []string) (*daemon, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the log of the daemon: %w", err)
	}
	d := &daemon{cmd: exec.Command(program, "run", "-c", config), done: make(chan struct{}), more: make(chan struct{})}
	d.cmd.Env = env
	// A Ctrl-C is for us, and we end the daemon in good order. If we are killed the daemon is
	// killed too, which it is built to survive.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if d.stderr, err = d.cmd.StderrPipe(); err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s run: %w", program, err)
	}
	go func() {
		defer close(d.done)
		defer log.Close()
		d.read(io.TeeReader(d.stderr, log))
		d.err = d.cmd.Wait()
	}()
	return d, nil
}

func (d *daemon) read(r io.Reader) {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if line != "" {
			d.mu.Lock()
			d.lines = append(d.lines, strings.TrimSuffix(line, "\n"))
			close(d.more)
			d.more = make(chan struct{})
			d.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// log returns the lines so far, and a channel that is closed when there are more.
func (d *daemon) log() ([]string, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clip(d.lines), d.more
}

// errEnded says that the daemon ended by itself.
var errEnded = errors.New("the daemon ended by itself")

// patience is how long something may take that should happen at once.
const patience = 15 * time.Second

// await waits until the daemon has logged a message that begins with one of messages, and
// returns that one.
func (d *daemon) await(ctx context.Context, messages ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		lines, more := d.log()
		for _, line := range lines {
			for _, m := range messages {
				if strings.Contains(line, " msg="+m) || strings.Contains(line, ` msg="`+m) {
					return m, nil
				}
			}
		}
		select {
		case <-more:
		case <-d.done:
			if now, _ := d.log(); len(now) == len(lines) {
				return "", fmt.Errorf("%w: %s", errEnded, strings.Join(lines[max(0, len(lines)-1):], ""))
			}
		case <-ctx.Done():
			return "", fmt.Errorf("the daemon did not log %q in time", messages[0])
		}
	}
}

// stopLimit is how long the daemon may take to stop: its straces have three seconds.
const stopLimit = 5 * time.Second

// stop ends the daemon as systemd would, and kills it if it does not end.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may already have ended
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-d.done:
	case <-timer.C:
		_ = d.cmd.Process.Kill()
		d.stderr.Close() // a child of the daemon may hold the other end
		<-d.done
		return fmt.Errorf("it did not stop in %v and was killed", stopLimit)
	}
	if d.err != nil {
		return fmt.Errorf("it ended with %w", d.err)
	}
	return nil
}

// importantLines returns the lines of a log that matter: the last warnings and errors, and
// lines that are not from the logger, such as why the daemon gave up. If there are none, it
// returns the last lines.
func importantLines(log []string) []string {
	const many, few = 15, 5
	var bad []string
	for _, line := range log {
		if !strings.Contains(line, " level=INFO ") && !strings.Contains(line, " level=DEBUG ") {
			bad = append(bad, line)
		}
	}
	if bad == nil {
		return log[max(0, len(log)-few):]
	}
	return bad[max(0, len(bad)-many):]
}
