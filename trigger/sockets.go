package trigger

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"culprit/internal/event"
	"culprit/internal/sockdiag"
)

// sockets finds the sockets that may have sent a packet.
//
// sock_diag answers with one that would receive the answer to the packet. That may be
// somebody else's: the sender's may be closed and its port another's by now, several
// sockets may share a port, and a raw socket sends from any. But the packet has the UID of
// its socket, by the kernel: a socket of another user did not send it.
type sockets struct {
	diag *sockdiag.Conn
	raw  []*os.File // /proc/net/raw and raw6 of the namespace
}

// openSockets looks at the network namespace of the calling thread.
func openSockets() (*sockets, error) {
	s := new(sockets)
	var err error
	if s.diag, err = sockdiag.Open(); err != nil {
		return nil, err
	}
	for _, name := range [...]string{"raw", "raw6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("look for raw sockets: %w", err)
		}
		s.raw = append(s.raw, f)
	}
	return s, nil
}

func (s *sockets) close() {
	s.diag.Close()
	for _, f := range s.raw {
		f.Close()
	}
}

// of returns the inodes of the sockets that may have sent a hit's packet, which is the only
// one if there is one. Or it says why none is known.
func (s *sockets) of(h *event.Hit, in nflogPacket) (inodes []uint64, why *event.Unattributed) {
	var protocol sockdiag.Protocol
	switch h.Network.Transport {
	case "udp":
		protocol = sockdiag.UDP
	case "tcp":
		protocol = sockdiag.TCP
	default:
		return nil, &event.Unattributed{Code: event.UnattributedProtocol}
	}
	if h.Source.Port == 0 {
		return nil, &event.Unattributed{Code: event.UnattributedFragment}
	}
	local, remote := netip.AddrPortFrom(h.Source.IP, h.Source.Port), netip.AddrPortFrom(h.Destination.IP, h.Destination.Port)
	found, err := s.diag.LookupOn(in.device, protocol, local, remote)
	// Without a UID the packet's socket was closed when it went.
	if errors.Is(err, sockdiag.ErrNotFound) || err == nil && in.uid == nil {
		return nil, &event.Unattributed{Code: event.UnattributedClosed}
	}
	failed := func(err error) *event.Unattributed {
		return &event.Unattributed{Code: event.UnattributedFailed, Detail: err.Error()}
	}
	if err != nil {
		return nil, failed(err)
	}
	others, err := s.diag.Others(found, protocol, local, remote)
	if err != nil {
		return nil, failed(err)
	}
	for _, o := range append(others, found) {
		if o.UID == *in.uid {
			inodes = append(inodes, uint64(o.Inode))
		}
	}
	if len(inodes) == 0 {
		return nil, &event.Unattributed{Code: event.UnattributedClosed}
	}
	if isRaw, err := s.hasRaw(*in.uid); err != nil {
		return nil, failed(err)
	} else if isRaw {
		return nil, &event.Unattributed{Code: event.UnattributedShared}
	}
	return inodes, nil
}

// hasRaw reports whether a user has a raw socket.
func (s *sockets) hasRaw(uid uint32) (bool, error) {
	for _, f := range s.raw {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return false, fmt.Errorf("look for raw sockets: %w", err)
		}
		uids, err := rawUIDs(f)
		if err != nil {
			return false, fmt.Errorf("look for raw sockets: %w", err)
		}
		if slices.Contains(uids, uid) {
			return true, nil
		}
	}
	return false, nil
}

// rawUIDs reads the column uid of /proc/net/raw or raw6 (man 5 proc_pid_net).
func rawUIDs(r io.Reader) (uids []uint32, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		const column = 7 // sl local remote st queues timer retransmits uid timeout inode …
		fields := strings.Fields(lines.Text())
		if len(fields) <= column || fields[0] == "sl" {
			continue
		}
		uid, err := strconv.ParseUint(fields[column], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("no UID in %q", lines.Text())
		}
		uids = append(uids, uint32(uid))
	}
	return uids, lines.Err()
}
