package kernel

import (
	"errors"

	"golang.org/x/sys/unix"
)

// InitialPIDs returns an error if we are not in the initial PID namespace, as programs in the kernel
// give PIDs as that has them.
func InitialPIDs() error {
	const initial = 0xEFFFFFFC // PROC_PID_INIT_INO in include/linux/proc_ns.h
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err == nil && ns.Ino != initial {
		return errors.New("culprit runs in a PID namespace, where it cannot tell processes by the kernel's PIDs")
	}
	return nil
}
