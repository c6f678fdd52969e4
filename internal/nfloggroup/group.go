// Package nfloggroup finds out who reads an NFLOG group. The kernel gives a group to one reader
// only and refuses a second (net/netfilter/nfnetlink_log.c).
package nfloggroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// A Reader is the netlink socket that reads a group, and the process that has it open.
type Reader struct {
	Port uint32 // its netlink port id
	PID  int    // 0 if no visible process has it open
	Name string // of the process, as ps shows it
}

// String describes the reader for people.
func (r *Reader) String() string {
	if r.PID == 0 {
		return fmt.Sprintf("netlink port %d, of a process that culprit cannot see", r.Port)
	}
	return fmt.Sprintf("%s, PID %d", r.Name, r.PID)
}

// Find returns the reader of a group in the network namespace of the calling thread, nil if
// there is none. Without root the kernel does not tell: fs.ErrPermission.
func Find(group int) (*Reader, error) {
	text, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_log")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody has used NFLOG yet
	}
	if err != nil {
		return nil, fmt.Errorf("find who reads NFLOG group %d: %w", group, err)
	}
	port, found, err := parsePort(string(text), group)
	if err != nil || !found {
		return nil, err
	}
	r := &Reader{Port: port}
	// The port id is often the PID, but only for the first netlink socket of a process. So
	// search by inode.
	if sockets, err := os.ReadFile("/proc/thread-self/net/netlink"); err == nil {
		if inode, ok := parseInode(string(sockets), port); ok {
			r.owner(proc.Default, inode)
		}
	}
	return r, nil
}

// owner finds the process that has the socket open.
func (r *Reader) owner(fs proc.FS, inode uint64) {
	pids, err := fs.PIDs()
	if err != nil {
		return
	}
	for _, pid := range pids {
		if !fs.HoldsSocket(pid, inode) {
			continue
		}
		if st, err := fs.Stat(pid); err == nil {
			r.PID, r.Name = pid, st.Comm
			return
		}
	}
}

// parsePort finds the port id of a group's reader in nfnetlink_log: group, port id, queue
// length, copy mode, copy range, flush timeout, references (seq_show in
// net/netfilter/nfnetlink_log.c).
func parsePort(text string, group int) (port uint32, found bool, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			return 0, false, fmt.Errorf("read nfnetlink_log: line %q is too short", line)
		}
		g, err1 := strconv.ParseUint(f[0], 10, 16)
		p, err2 := strconv.ParseUint(f[1], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return 0, false, fmt.Errorf("read nfnetlink_log: line %q: %w", line, err)
		}
		if int(g) == group {
			return uint32(p), true, nil
		}
	}
	return 0, false, nil
}

// parseInode finds a netfilter socket in /proc/net/netlink: sk, Eth (the
// protocol), Pid (the port id), Groups, Rmem, Wmem, Dump, Locks, Drops, Inode
// (netlink_native_seq_show in net/netlink/af_netlink.c).
func parseInode(text string, port uint32) (inode uint64, found bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 10 && f[1] == strconv.Itoa(unix.NETLINK_NETFILTER) && f[2] == strconv.FormatUint(uint64(port), 10) {
			inode, err := strconv.ParseUint(f[9], 10, 64)
			return inode, err == nil
		}
	}
	return 0, false
}
