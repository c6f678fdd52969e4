package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Keeper is the daemon's side: it starts the gate, tells it what to hold, and
// starts it anew should it end. While anything is watched it pings the gate, which
// holds nobody for a daemon that it does not hear.
type Keeper struct {
	deadline time.Duration
	args     []string
	spawn    func(context.Context, *exec.Cmd) (lifeline io.Closer, err error)

	watches chan []uint32 // the latest set that was not taken yet
	gos     chan uint64
}

// NewKeeper makes a keeper. spawn starts the gate so that it dies with us. The
// keeper starts nothing before [Keeper.Run].
func NewKeeper(c Config, spawn func(context.Context, *exec.Cmd) (io.Closer, error)) *Keeper {
	args := []string{"culprit", "gate", "--deadline", c.Deadline.String()}
	if c.Stop {
		args = append(args, "--stop")
	}
	for _, file := range c.Exempt {
		args = append(args, "--exempt", file)
	}
	return &Keeper{
		deadline: c.Deadline, args: args, spawn: spawn,
		watches: make(chan []uint32, 1), gos: make(chan uint64, 1024),
	}
}

// MustStop reports whether this kernel is older than 6.8, the first on which a
// process can be attached to while its execve is held.
func MustStop() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true
	}
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major < 6 || major == 6 && minor < 8
}

// Watch sets the UIDs whose programs are held; none: nobody waits for us. It never
// waits, and has one caller.
func (k *Keeper) Watch(uids []uint32) {
	select {
	case <-k.watches:
	default:
	}
	k.watches <- uids
}

// Go lets a held process go on. It is no error if it has done so already.
func (k *Keeper) Go(number uint64) {
	select {
	case k.gos <- number:
	default: // the gate's deadline will do it
	}
}

// Output takes what the keeper learns. It is called on one goroutine.
type Output interface {
	// Held is told of each held process. Somebody must call Go for it soon.
	Held(Held)
	// Down is told when the gate failed: from now until the next Marked programs
	// are started unseen by it.
	Down(error)
	// Marked is told when the file systems are marked, and which could not be.
	Marked(trouble string)
	// Counted is told now and then what the gate has done since it was started.
	Counted(Counts)
}

// Run keeps a gate running until the context ends. While nothing is watched the
// gate sleeps.
func (k *Keeper) Run(ctx context.Context, out Output) {
	var watched []uint32
	for ctx.Err() == nil {
		err := k.serve(ctx, &watched, out)
		if ctx.Err() != nil {
			return
		}
		out.Down(err)
		select { // do not start one after the other where it cannot work
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// serve runs one gate until it fails or the context ends.
func (k *Keeper) serve(ctx context.Context, watched *[]uint32, out Output) error {
	conn, cmd, lifeline, err := k.start(ctx)
	if err != nil {
		return fmt.Errorf("start the gate: %w", err)
	}
	in := make(chan []byte, 64)
	go receive(conn, in)
	defer func() {
		// First the socket: a gate that is well ends by it. Then the rest.
		conn.Close()
		cmd.Process.Kill()
		cmd.Wait()
		lifeline.Close()
		for range in {
		}
	}()

	send := func(b []byte) error {
		if _, err := conn.Write(b); err != nil {
			return fmt.Errorf("write to the gate: %w", err)
		}
		return nil
	}
	if len(*watched) > 0 {
		if err := send(encodeWatch(*watched)); err != nil {
			return err
		}
	}
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	if len(*watched) == 0 {
		pings.Stop()
	}
	for {
		select {
		case *watched = <-k.watches:
			if err := send(encodeWatch(*watched)); err != nil {
				return err
			}
			pings.Stop()
			if len(*watched) > 0 {
				pings.Reset(pingEvery)
			}
		case number := <-k.gos:
			if err := send(encodeGo(number)); err != nil {
				return err
			}
		case <-pings.C:
			if err := send([]byte{kindPing}); err != nil {
				return err
			}
		case b, open := <-in:
			if !open {
				return errors.New("the gate has ended")
			}
			switch b[0] {
			case kindHeld:
				h, err := decodeHeld(b)
				if err != nil {
					return fmt.Errorf("read from the gate: %w", err)
				}
				out.Held(h)
			case kindMarks:
				out.Marked(string(b[1:]))
			case kindPing:
				c, err := decodeCounts(b)
				if err != nil {
					return fmt.Errorf("read from the gate: %w", err)
				}
				out.Counted(c)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// start starts the gate with one end of a socket pair as descriptor 3.
func (k *Keeper) start(ctx context.Context) (*net.UnixConn, *exec.Cmd, io.Closer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "gate"), os.NewFile(uintptr(pair[1]), "gate")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("use the socket: %w", err)
	}
	cmd := &exec.Cmd{Path: self, Args: k.args, Stderr: os.Stderr, ExtraFiles: []*os.File{theirs}}
	lifeline, err := k.spawn(ctx, cmd)
	if err != nil {
		c.Close()
		return nil, nil, nil, err
	}
	return c.(*net.UnixConn), cmd, lifeline, nil
}

// receive passes on messages until the socket closes.
func receive(conn *net.UnixConn, in chan<- []byte) {
	defer close(in)
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		in <- bytes.Clone(buf[:n])
	}
}
