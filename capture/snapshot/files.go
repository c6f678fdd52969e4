package snapshot

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
)

// maxOpen bounds the descriptors that are looked at.
const maxOpen = 2048

// files reads what is open: files by their names, sockets by their addresses.
func (t *Taker) files(pid int) put {
	dir, err := os.Open(t.name(pid, "fd"))
	if err != nil {
		return missed(event.PartFiles, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return missed(event.PartFiles, err)
	}
	fds := make([]int, 0, len(names))
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	var files []event.OpenFile
	var sockets []event.Socket
	for _, fd := range fds[:min(len(fds), maxOpen)] {
		name := strconv.Itoa(fd)
		path, access, err := open(int(dir.Fd()), name)
		if err != nil {
			continue // another process with the same table has closed it
		}
		if inode, ok := socketInode(path); ok {
			sockets = append(sockets, event.Socket{FD: fd, Inode: inode})
		} else {
			files = append(files, event.OpenFile{FD: fd, Access: access, Path: event.Cut(path, 1024)})
		}
	}
	unasked, why := addresses(pid, sockets)
	return func(d *event.Snapshot, _ *sight) {
		d.Culprit.Files, d.Culprit.Sockets = files, sockets
		d.Culprit.LeaveOut(event.PartFiles, len(fds)-maxOpen)
		if unasked > 0 {
			d.Culprit.Miss(event.PartSockets, code(why), fmt.Sprintf("addresses of %d: %v", unasked, why))
		}
	}
}

// open says what a descriptor is. The mode of its link is how it was opened (man 5 proc).
func open(dir int, name string) (path, access string, err error) {
	var buf [4096]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	if err != nil {
		return "", "", err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		if st.Mode&0o400 != 0 {
			access = "r"
		}
		if st.Mode&0o200 != 0 {
			access += "w"
		}
	}
	return string(buf[:n]), access, nil
}

func socketInode(path string) (uint64, bool) {
	number, ok := strings.CutPrefix(path, "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	return inode, err == nil
}

// addresses asks the sockets of a process for their addresses: each itself, by a copy of its
// descriptor (man 2 pidfd_getfd, since 5.6). So it does not matter in which network namespace
// they are, or how many others there are. It returns how many it could not ask, and why.
func addresses(pid int, sockets []event.Socket) (unasked int, why error) {
	if len(sockets) == 0 {
		return 0, nil
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return len(sockets), fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(process)
	for i := range sockets {
		if err := ask(process, &sockets[i]); err != nil {
			unasked, why = unasked+1, err
		}
	}
	return unasked, why
}

func ask(process int, s *event.Socket) error {
	fd, err := unix.PidfdGetfd(process, s.FD, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != s.Inode {
		return errors.New("it is another socket by now")
	}
	option := func(name int, names map[int]string) string {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		if err != nil {
			return ""
		}
		if known, ok := names[n]; ok {
			return known
		}
		return strconv.Itoa(n)
	}
	s.Family = option(unix.SO_DOMAIN, map[int]string{
		unix.AF_INET: "inet", unix.AF_INET6: "inet6", unix.AF_UNIX: "unix", unix.AF_NETLINK: "netlink", unix.AF_PACKET: "packet",
	})
	s.Type = option(unix.SO_TYPE, map[int]string{
		unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "dgram", unix.SOCK_RAW: "raw", unix.SOCK_SEQPACKET: "seqpacket",
	})
	if s.Family == "inet" || s.Family == "inet6" {
		s.Protocol = option(unix.SO_PROTOCOL, map[int]string{
			unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmpv6",
		})
	}
	if local, err := unix.Getsockname(fd); err == nil {
		s.Local = address(local)
	}
	if remote, err := unix.Getpeername(fd); err == nil {
		s.Remote = address(remote)
	}
	return nil
}

func address(a unix.Sockaddr) string {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		return event.Cut(a.Name, 256)
	}
	return ""
}
