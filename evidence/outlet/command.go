package outlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// A Command starts a program and writes events to its standard input. When the program ends,
// Command starts it again, and sends it what the last one has not read.
type Command struct {
	args  []string
	log   *slog.Logger
	limit *rate.Limiter // of log lines
	taken uint64
	run   *running // nil: it does not run
}

// running is a program that was started.
type running struct {
	cmd           *exec.Cmd
	input, output *os.File // the pipe of its standard input: our end, and the one it reads from
	ended         chan struct{}
	err           error  // how it ended; valid once ended is closed
	written       int64  // bytes
	sent          []sent // events that it may not have read yet
}

// sent is an event, and the offset in the input at which its line ends.
type sent struct {
	sequence uint64
	end      int64
}

// OpenCommand fails if the program is not installed. The first event starts the program. Its
// standard output and error go to the log.
func OpenCommand(args []string, log *slog.Logger) (*Command, error) {
	if _, err := exec.LookPath(args[0]); err != nil {
		return nil, fmt.Errorf("events.command: %w", err)
	}
	const perSecond = 10
	return &Command{args: args, log: log, limit: rate.NewLimiter(perSecond, perSecond)}, nil
}

// start starts the program. We keep both ends of its standard input open: one to write, and the
// other to see how much it has not read.
func (o *Command) start() error {
	output, input, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("events.command: %w", err)
	}
	r := &running{input: input, output: output, ended: make(chan struct{})}
	r.cmd = exec.Command(o.args[0], o.args[1:]...)
	r.cmd.Stdin = output
	r.cmd.Stdout, r.cmd.Stderr = said{o}, said{o}
	r.cmd.WaitDelay = time.Second                           // its children may hold them open
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := r.cmd.Start(); err != nil {
		input.Close()
		output.Close()
		return fmt.Errorf("events.command: %w", err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
		input.SetWriteDeadline(time.Now()) // ends a write that nobody reads
	}()
	o.run = r
	return nil
}

// Send writes events, and waits while the program does not read.
func (o *Command) Send(ctx context.Context, events []Event) error {
	if o.run == nil {
		if err := o.start(); err != nil {
			return err
		}
	}
	r := o.run
	defer context.AfterFunc(ctx, func() { r.input.SetWriteDeadline(time.Now()) })()
	var err error
	for _, e := range events {
		var n int
		n, err = r.input.WriteString(e.Line)
		r.written += int64(n)
		if err != nil {
			err = fmt.Errorf("events.command %s does not read: %w", o.args[0], err)
			break
		}
		r.sent = append(r.sent, sent{e.Sequence, r.written})
		o.Taken() // forgets what was read
	}
	select {
	case <-r.ended:
		return o.reap()
	default:
		return err
	}
}

// Taken returns the last event that the program has read.
func (o *Command) Taken() uint64 {
	r := o.run
	if r == nil || len(r.sent) == 0 {
		return o.taken
	}
	unread, err := unix.IoctlGetInt(int(r.output.Fd()), unix.TIOCINQ)
	if err != nil {
		return o.taken
	}
	for len(r.sent) > 0 && r.sent[0].end <= r.written-int64(unread) {
		o.taken = r.sent[0].sequence
		r.sent = r.sent[1:]
	}
	return o.taken
}

// reap cleans up after a program that has ended.
func (o *Command) reap() error {
	r := o.run
	o.Taken()
	o.run = nil
	r.input.Close()
	r.output.Close()
	if r.err != nil {
		return fmt.Errorf("events.command %s ended: %w", o.args[0], r.err)
	}
	return fmt.Errorf("events.command %s ended", o.args[0])
}

// Close lets the program read the rest and end, and kills it when the context ends.
func (o *Command) Close(ctx context.Context) error {
	r := o.run
	if r == nil {
		return nil
	}
	r.input.Close()
	var err error
	select {
	case <-r.ended:
	case <-ctx.Done():
		err = fmt.Errorf("events.command %s did not end when its input ended: culprit killed it", o.args[0])
		syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		<-r.ended
	}
	o.Taken()
	return errors.Join(err, r.output.Close())
}

// said logs the output of the program.
type said struct{ o *Command }

func (s said) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if s.o.limit.Allow() {
			s.o.log.Warn("events.command says", "command", s.o.args[0], "text", string(bytes.TrimSpace(line)))
		}
	}
	return len(b), nil
}
