// Package listen opens the addresses where culprit answers, ports and sockets that only their owner can use, and answers there.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// On listens on an address of the network "tcp" or "unix". Only its owner can use a socket, which
// must be in a directory that nobody else can write to. On replaces the socket of a killed daemon.
// Closing the listener removes the socket.
func On(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	if network == "unix" {
		if err := prepareSocket(address); err != nil {
			return nil, err
		}
		// The file gets the mode that its socket has before bind (unix_bind_bsd in
		// net/unix/af_unix.c), so at no moment can others connect.
		lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
			if controlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); controlErr != nil {
				return controlErr
			}
			return err
		}
	}
	l, err := lc.Listen(ctx, network, address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program: choose another port (who it is: ss -ltnp)", address)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// prepareSocket creates the directory of a socket if its parent exists, checks that only we can
// write there, and removes the socket of a dead process.
func prepareSocket(path string) error {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("look for the directory of the socket: %w", err)
	}
	if err := checkPrivate(real); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket: move it away, or name another path", path)
	}
	// Only a socket without a listener refuses connections. A full queue answers EAGAIN.
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("another program listens on %s: stop that one, or name another path", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a daemon that is gone: %w", err)
	}
	return nil
}

// checkPrivate checks that nobody else can put anything into a directory, or another directory
// in its place.
func checkPrivate(dir string) error {
	for at, here := dir, true; ; at, here = filepath.Dir(at), false {
		info, err := os.Lstat(at)
		if err != nil {
			return fmt.Errorf("look at the directory of the socket: %w", err)
		}
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		switch {
		case owner != 0 && owner != os.Geteuid():
			return fmt.Errorf("%s belongs to user %d, who could replace our socket: name a path in a directory that belongs to root, such as /run/culprit", at, owner)
		// In a sticky directory nobody can move what belongs to others.
		case info.Mode().Perm()&0o022 != 0 && (here || info.Mode()&fs.ModeSticky == 0):
			return fmt.Errorf("%s can be written to by others, who could replace our socket: chmod go-w it, or name a path in another directory, such as /run/culprit", at)
		}
		if at == "/" {
			return nil
		}
	}
}
