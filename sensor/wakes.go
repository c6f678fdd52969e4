package sensor

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wakes waits for several descriptors, on one goroutine. It waits as Go waits for a network. In
// poll(2) it would cost more: Go's runtime wakes some twelve times after each to see whether that
// thread is still there (sysmon in runtime/proc.go).
type wakes struct {
	fd    int
	epoll *os.File // the same
	raw   syscall.RawConn
}

// newWakes makes wakes for these descriptors.
func newWakes(fds ...int) (*wakes, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	for _, of := range fds {
		if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, of, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(of)}); err != nil {
			return nil, errors.Join(fmt.Errorf("wait for a descriptor: %w", err), unix.Close(fd))
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.NewFile would not wait as said
		return nil, errors.Join(err, unix.Close(fd))
	}
	w := &wakes{fd: fd, epoll: os.NewFile(uintptr(fd), "epoll")}
	if w.raw, err = w.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// until waits until some of the descriptors can be read or have been closed by their other end, and
// returns these; none if it is that late first. The zero time never comes.
func (w *wakes) until(at time.Time) (ready []int, err error) {
	// A deadline that has passed must not hide what is there.
	if ready, err = w.now(); len(ready) > 0 || err != nil {
		return ready, err
	}
	if err := w.epoll.SetReadDeadline(at); err != nil {
		return nil, err
	}
	e := w.raw.Read(func(uintptr) bool {
		ready, err = w.now()
		return len(ready) > 0 || err != nil
	})
	if errors.Is(e, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return ready, errors.Join(err, e)
}

// now returns those that are ready now.
func (w *wakes) now() (ready []int, err error) {
	var events [4]unix.EpollEvent
	n, err := unix.EpollWait(w.fd, events[:], 0) // does not wait, so no signal ends it
	for _, e := range events[:max(n, 0)] {
		ready = append(ready, int(e.Fd))
	}
	return ready, err
}

func (w *wakes) close() error { return w.epoll.Close() }
