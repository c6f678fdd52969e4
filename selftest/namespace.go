package selftest

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// enterNew moves the calling thread into new namespaces: a network whose loopback device is up,
// and mounts. They vanish with their last thread, process and socket.
func enterNew() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a network namespace: %w: it needs CAP_SYS_ADMIN, and a kernel with CONFIG_NET_NS", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// A daemon on this machine may keep a list of stopped programs there, which a gate in here
	// would take for that of a dead gate.
	if err := unix.Mount("none", "/run/culprit", "tmpfs", 0, "mode=0700,size=1m"); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("hide /run/culprit: %w", err)
	}
	return bringUp("lo")
}

func bringUp(device string) error {
	// The same as ip link set DEVICE up, without iproute2.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up %s: %w", device, err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(device)
	if err != nil {
		return fmt.Errorf("bring up %s: %w", device, err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring up %s: %w", device, err)
	}
	return nil
}
