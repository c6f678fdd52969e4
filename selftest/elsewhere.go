package selftest

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// leave moves the calling thread into another network namespace, with a resolver, and leaves the daemon where it is.
func (h *hunt) leave() (*resolver, error) {
	if err := enterNew(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil, fmt.Errorf("look at the other network namespace: %w", err)
	}
	h.netns = st.Ino
	return listen(netip.MustParseAddr(ways[0].server))
}

// otherNamespace checks a first packet of a network namespace that has no rule, as a container has its own: it is seen, with its
// namespace, and its sender is named, stopped and proven.
func (h *hunt) otherNamespace() Check {
	for _, line := range h.log {
		if _, why, refused := strings.Cut(line, "the packets of other network namespaces cannot be seen: "); refused {
			return Check{Status: NotHere, Found: strings.TrimSuffix(why, ": set namespaces: host")}
		}
	}
	q, hit, why := h.firstQuery()
	if why != nil {
		return *why
	}
	switch {
	case hit == nil:
		return failed(seeDoctor+" about namespaces", "a packet of another network namespace was not seen")
	case hit.Culprit.Netns == nil || uint64(hit.Culprit.Netns.Inode) != h.netns:
		return failed(report, "the packet was sent in the network namespace %d, the hit says %v", h.netns, hit.Culprit.Netns)
	case hit.Culprit.Sent == nil || hit.Process == nil || hit.Process.PID != q.pid:
		return failed(seeDoctor+" about namespaces", "the kernel did not name the sender: the origin has the grade %s", hit.Culprit.Origin.Grade)
	case h.stopErr != nil:
		return failed(seeLog, "the daemon did not stop cleanly: %v", h.stopErr)
	}
	named := fmt.Sprintf("in a network namespace without rules the kernel named the sender, in %s", hit.Culprit.Sent.Syscall)
	return h.caught(q, hit, h.logged("packets of other network namespaces are seen", "freeze=false"), named)
}
