package gate

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keeper is the daemon's side: it starts the gate, tells it what to hold, and starts it again
// if it ends. While anything is watched it pings the gate, which holds nothing for a daemon
// that it does not hear.
type Keeper struct {
	args  []string
	stop  bool
	limit time.Duration // of a hold
	start func(*exec.Cmd) error

	watches chan []uint32 // the latest set that has not been taken yet
	gos     chan uint64
}

// NewKeeper makes a keeper. It starts nothing before [Keeper.Run].
func NewKeeper(c Config) *Keeper {
	args := []string{"culprit", "gate", "--deadline", c.Deadline.String()}
	if c.Stop {
		args = append(args, "--stop")
	}
	for _, file := range c.Exempt {
		args = append(args, "--exempt", file)
	}
	return &Keeper{
		args: args, stop: c.Stop, limit: c.Deadline, start: (*exec.Cmd).Start,
		watches: make(chan []uint32, 1), gos: make(chan uint64, 1024),
	}
}

// Watch sets the UIDs whose programs are held; with none nobody waits for us. It never blocks,
// and has one caller.
func (k *Keeper) Watch(uids []uint32) {
	select {
	case <-k.watches:
	default:
	}
	k.watches <- uids
}

// Go lets a held process go on. It is no error if the process has already gone on.
func (k *Keeper) Go(number uint64) {
	select {
	case k.gos <- number:
	default: // the gate's deadline will release it
	}
}

// Output takes what the keeper learns. All calls come from one goroutine.
type Output interface {
	// Held reports a held process. Somebody must call Go for it soon.
	Held(Held)
	// Gone reports the end of a hold, and how long it took: its deadline at most.
	Gone(after time.Duration)
	// Down reports that the gate failed: until the next Marked it does not see programs start.
	Down(error)
	// Marked reports that the file systems are marked, and which could not be.
	Marked(trouble string)
	// Counted reports from time to time what the gate has done since it started.
	Counted(Counts)
}

// Run keeps a gate running until the context ends. While nothing is watched the gate sleeps.
func (k *Keeper) Run(ctx context.Context, out Output) {
	var watched []uint32
	for ctx.Err() == nil {
		began := time.Now()
		err := k.serve(ctx, &watched, out)
		if ctx.Err() != nil {
			return
		}
		out.Down(err)
		select { // do not start one after the other if it cannot work
		case <-time.After(time.Until(began.Add(time.Second))):
		case <-ctx.Done():
		}
	}
}

// open starts the gate with one end of a socket pair as descriptor 3. When we die that closes,
// and the gate ends by itself.
func (k *Keeper) open() (*net.UnixConn, *exec.Cmd, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "gate"), os.NewFile(uintptr(pair[1]), "gate")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, fmt.Errorf("use the socket: %w", err)
	}
	cmd := &exec.Cmd{
		// Not by its path, which may be another culprit's after an upgrade.
		Path: "/proc/self/exe", Args: k.args, Stderr: os.Stderr, ExtraFiles: []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, // a terminal's Ctrl-C must not reach it
	}
	if err := k.start(cmd); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), cmd, nil
}
