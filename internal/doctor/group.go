package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
)

// logGroup says whether our NFLOG group is free. The kernel gives a group to one
// reader only; the second is refused with EPERM (net/netfilter/nfnetlink_log.c).
func logGroup(ctx context.Context, c *config.Config) Check {
	group := c.NFLog.Group
	text, err := os.ReadFile("/proc/net/netfilter/nfnetlink_log")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ok("group %d is free: nobody has used NFLOG yet", group)
	case errors.Is(err, fs.ErrPermission):
		return cannotTell()
	case err != nil:
		return warn("cannot tell: "+err.Error(), "none known: please report this")
	}
	readers, err := parseLogReaders(string(text))
	if err != nil {
		return warn("cannot tell: "+err.Error(), "none known: please report this")
	}
	for _, r := range readers {
		if r.group == group {
			return heldBy(ctx, r)
		}
	}
	return ok("group %d is free", group)
}

func heldBy(ctx context.Context, r logReader) Check {
	const other = "; or give culprit another number: nflog.group in its configuration"
	pid, err := readerPID(ctx, r)
	if err != nil {
		return fail(fmt.Sprintf("group %d is read by netlink port %d: %v", r.group, r.port, err),
			"its owner may be in a container, see lsns -t pid; stop it"+other)
	}
	name := processName(pid)
	if name == "culprit" {
		return ok("group %d is read by culprit itself, PID %d", r.group, pid)
	}
	return fail(fmt.Sprintf("group %d is read by %s, PID %d", r.group, name, pid), "stop it (systemctl status "+strconv.Itoa(pid)+" says what started it)"+other)
}

// A logReader is who reads an NFLOG group: a netlink socket, by its port id.
type logReader struct {
	group int
	port  uint32
}

// parseLogReaders reads /proc/net/netfilter/nfnetlink_log: group, port id, queue
// length, copy mode, copy range, flush timeout, references (seq_show in
// net/netfilter/nfnetlink_log.c).
func parseLogReaders(text string) ([]logReader, error) {
	var readers []logReader
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			return nil, fmt.Errorf("read nfnetlink_log: line %q is too short", line)
		}
		group, err := strconv.ParseUint(f[0], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("read nfnetlink_log: group: %w", err)
		}
		port, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read nfnetlink_log: port id: %w", err)
		}
		readers = append(readers, logReader{int(group), uint32(port)})
	}
	return readers, nil
}

// readerPID finds the process that has the reader's socket open. The port id is
// often the PID, but only of a process's first netlink socket: so by the inode.
func readerPID(ctx context.Context, r logReader) (int, error) {
	text, err := os.ReadFile("/proc/net/netlink")
	if err != nil {
		return 0, fmt.Errorf("find its socket: %w", err)
	}
	inode, found := netlinkInode(string(text), unix.NETLINK_NETFILTER, r.port)
	if !found {
		return 0, errors.New("its socket is not in /proc/net/netlink")
	}
	return socketOwner(ctx, inode)
}

// netlinkInode finds a socket in /proc/net/netlink: sk, Eth (the protocol), Pid
// (the port id), Groups, Rmem, Wmem, Dump, Locks, Drops, Inode
// (netlink_native_seq_show in net/netlink/af_netlink.c).
func netlinkInode(text string, protocol int, port uint32) (string, bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 10 && f[1] == strconv.Itoa(protocol) && f[2] == strconv.FormatUint(uint64(port), 10) {
			return f[9], true
		}
	}
	return "", false
}

// socketOwner finds a process that has the socket with the inode open.
func socketOwner(ctx context.Context, inode string) (int, error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("list the processes: %w", err)
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("search the processes for its socket: %w", err)
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		files, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended, or is not ours to look into
		}
		for _, f := range files {
			if target, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && target == "socket:["+inode+"]" {
				return pid, nil
			}
		}
	}
	return 0, errors.New("no process that can be seen here has its socket open")
}

// processName is the name of a process as ps shows it, 15 bytes at most.
func processName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "a process that has just ended"
	}
	return strings.TrimSuffix(string(name), "\n")
}
