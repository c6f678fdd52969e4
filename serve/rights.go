package serve

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GiveUpRights makes the process give up, in all its threads, every capability but the one to read the files
// of others, and every way to get more (no_new_privs). Root still owns the evidence.
func GiveUpRights() error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("give up rights: prctl PR_SET_NO_NEW_PRIVS: %w", errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have, keep [2]unix.CapUserData // 64 capabilities
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("give up rights: capget: %w", err)
	}
	read := uint32(1) << unix.CAP_DAC_READ_SEARCH
	keep[0].Permitted, keep[0].Effective = have[0].Permitted&read, have[0].Effective&read
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&keep[0])), 0); errno != 0 {
		return fmt.Errorf("give up rights: capset: %w", errno)
	}
	return nil
}
