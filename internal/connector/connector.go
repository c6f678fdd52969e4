// Package connector receives the kernel's process events: which process forked, executed a
// program, changed its UIDs or exited. See the proc connector in drivers/connector/cn_proc.c
// and Documentation/driver-api/connector.rst.
package connector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Batch is the most events that one Receive returns, so that the first does not wait long for
// the last.
const Batch = 64

// ErrOverrun says that events were lost because the reader was too slow. It wraps
// [unix.ENOBUFS].
var ErrOverrun = fmt.Errorf("process events were lost: %w", unix.ENOBUFS)

const (
	// Room for 20,000 events: the kernel doubles the number, and each event takes 832 bytes.
	readBuffer = 8 << 20
	// No event is larger than this (CONNECTOR_MAX_MSG_SIZE in linux/connector.h).
	datagram = 16384
	// The kernel answers at once, or not at all if it refuses.
	ackTimeout = time.Second
)

// A Conn receives the events of all processes of the machine.
//
// It waits in poll(2) and not in the runtime's poller, which each event would wake even while
// nobody receives. That would slow down all forks and execs of the machine.
type Conn struct {
	file, stop *os.File // stop is an eventfd that ends the wait
	raw        [2]syscall.RawConn
	// The fields below belong to Receive.
	buf     []byte
	events  []Event
	overrun bool
}

// Open opens a Conn. When it returns the subscription is active: the Conn gets the events of
// every process that starts later, unless [ErrOverrun] says otherwise.
//
// Open makes the socket in the initial network namespace, whatever that of the caller is,
// because the connector answers nowhere else. The caller must be in the initial PID and user
// namespaces and have CAP_NET_ADMIN and CAP_SYS_PTRACE, and CAP_SYS_ADMIN if it is in another
// network namespace.
func Open() (*Conn, error) {
	c, err := open(readBuffer)
	if err != nil {
		return nil, fmt.Errorf("open proc connector: %w", err)
	}
	return c, nil
}

func open(readBuffer int) (*Conn, error) {
	var fd int
	err := inInitialNet(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_CONNECTOR)
		return err
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, fmt.Errorf("open socket: the kernel lacks CONFIG_PROC_EVENTS: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "proc connector")
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	c := &Conn{file: file, stop: os.NewFile(uintptr(stop), "eventfd"), buf: make([]byte, datagram)}
	if err := c.start(fd, readBuffer); err != nil {
		// Not c.Close: before Linux 6.6 the kernel counts every listener that leaves, even one
		// that never came.
		c.file.Close()
		c.stop.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) start(fd, readBuffer int) (err error) {
	for i, f := range []*os.File{c.file, c.stop} {
		if c.raw[i], err = f.SyscallConn(); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer); err != nil {
		return fmt.Errorf("set read buffer (needs CAP_NET_ADMIN): %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (cnIdxProc - 1)}); err != nil {
		return fmt.Errorf("join group (needs CAP_NET_ADMIN): %w", err)
	}
	if err := c.listen(); err != nil {
		return err
	}
	// Ask for only the kinds of events that we want, where the kernel can filter (6.6 and
	// later); strace, for example, causes many others. Older kernels ignore a request of this
	// length. It cannot be the first request, because an acknowledgement does not pass the
	// filter.
	filter := binary.NativeEndian.AppendUint32(nil, mcastListen)
	filter = binary.NativeEndian.AppendUint32(filter, whatFork|whatExec|whatUID|whatExit)
	return c.send(0, filter)
}

// listen asks for events and waits for the kernel's acknowledgement. All listeners of the
// machine receive each acknowledgement, so the request has a number.
func (c *Conn) listen() error {
	number := rand.Uint32()
	err := c.send(number, binary.NativeEndian.AppendUint32(nil, mcastListen))
	if errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("ask for events: not the initial network namespace, or the kernel lacks CONFIG_CONNECTOR: %w", err)
	}
	if err != nil {
		return fmt.Errorf("ask for events: %w", err)
	}
	for deadline := time.Now().Add(ackTimeout); ; {
		var n int
		err := c.wait(time.Until(deadline), func(fd int) (err error) {
			n, _, err = unix.Recvfrom(fd, c.buf, unix.MSG_DONTWAIT)
			return err
		})
		switch {
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("wait for acknowledgement: "+
				"not the initial PID or user namespace, or the kernel lacks CONFIG_PROC_EVENTS: %w", err)
		case err != nil:
			return fmt.Errorf("wait for acknowledgement: %w", err)
		}
		for m := range messages(c.buf[:n]) {
			errno, ok := m.acknowledges(number)
			if ok && errno != 0 {
				return fmt.Errorf("ask for events (needs CAP_NET_ADMIN): %w", errno)
			}
			if ok {
				return nil
			}
		}
	}
}

// forever is the timeout of a wait without one.
const forever = -1 * time.Millisecond

// wait waits until there is something to read, and calls f to read it. After the timeout it
// returns [os.ErrDeadlineExceeded], after Close [os.ErrClosed].
func (c *Conn) wait(timeout time.Duration, f func(fd int) error) error {
	if timeout != forever {
		timeout = max(0, timeout)
	}
	failed := os.ErrClosed // Control does not call its function if the file is closed
	_ = c.raw[0].Control(func(fd uintptr) {
		_ = c.raw[1].Control(func(stop uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, int(timeout.Milliseconds()))
			switch {
			case err != nil && !errors.Is(err, unix.EINTR):
				failed = err
			case fds[1].Revents != 0:
			case n == 0 && timeout != forever:
				failed = os.ErrDeadlineExceeded
			default:
				failed = f(int(fd))
			}
		})
	})
	return failed
}

func (c *Conn) send(number uint32, op []byte) error {
	_, err := c.file.Write(encode(number, op))
	return err
}

// Receive waits for events and returns at least one, in the kernel's order. Only one goroutine
// may call it at a time.
//
// [ErrOverrun] means that events were lost. Receive returns it after all events that were not,
// when the queue is empty, because the kernel goes on dropping events until then. So a scan of
// /proc that begins after it misses nothing, and Receive may be called again. After
// [Conn.Close] the error is [os.ErrClosed].
func (c *Conn) Receive() ([]Event, error) {
	c.events = c.events[:0]
	for {
		timeout := forever
		if c.overrun {
			timeout = 0
		}
		err := c.wait(timeout, c.drain)
		if len(c.events) > 0 {
			return slices.Clone(c.events), nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break // these were all before the overrun
		}
		if err != nil {
			return nil, fmt.Errorf("receive process events: %w", err)
		}
	}
	c.overrun = false
	return nil, fmt.Errorf("receive process events: %w", ErrOverrun)
}

// drain reads the queue, until it has a full batch.
func (c *Conn) drain(fd int) error {
	for len(c.events) < Batch {
		n, _, err := unix.Recvfrom(fd, c.buf, unix.MSG_DONTWAIT)
		switch err {
		case nil:
			c.events = appendEvents(c.events, c.buf[:n])
		case unix.EINTR:
		case unix.ENOBUFS:
			c.overrun = true
		case unix.EAGAIN:
			return nil
		default:
			return err
		}
	}
	return nil
}

// Close ends the subscription and closes the Conn. A waiting Receive returns.
func (c *Conn) Close() error {
	// The kernel counts its listeners, and makes events as long as there are any. Before Linux
	// 6.6 it did not notice when one just closed its socket.
	_ = c.send(0, binary.NativeEndian.AppendUint32(nil, mcastIgnore))
	_, _ = c.stop.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	return errors.Join(c.file.Close(), c.stop.Close())
}
