package gate

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchdog kills this process if it is not fed in time, by a kernel timer whose signal is
// SIGKILL (man 2 timer_create). It also strikes a process that is stopped or whose threads all
// hang, and needs no other process.
type watchdog struct {
	timer int32
	after time.Duration
	fed   time.Time // zero: it rests
}

// sigevent is struct sigevent of the kernel (include/uapi/asm-generic/siginfo.h).
type sigevent struct {
	value  uint64
	signo  int32
	notify int32
	_      [48]byte
}

func newWatchdog(after time.Duration) (watchdog, error) {
	const sigevSignal = 0
	w := watchdog{after: after}
	e := sigevent{signo: int32(unix.SIGKILL), notify: sigevSignal}
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&e)), uintptr(unsafe.Pointer(&w.timer))); errno != 0 {
		return w, fmt.Errorf("make a watchdog timer: %w", errno)
	}
	return w, nil
}

// feedEvery is how long one feed lasts, because setting a timer is expensive on virtual
// machines.
const feedEvery = 50 * time.Millisecond

// feed restarts the whole time, or up to feedEvery less.
func (w *watchdog) feed(now time.Time) error {
	if now.Sub(w.fed) < feedEvery {
		return nil
	}
	w.fed = now
	return w.set(w.after)
}

// rest stops the timer until the next feed.
func (w *watchdog) rest() error {
	if w.fed.IsZero() {
		return nil
	}
	w.fed = time.Time{}
	return w.set(0)
}

func (w *watchdog) set(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(w.timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("set the watchdog timer: %w", errno)
	}
	return nil
}
