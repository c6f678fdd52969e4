package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// routingMarks finds the rules of routing that look at the packet's mark ("ip rule … fwmark"). It
// asks the kernel itself (net/core/fib_rules.c), as a machine may have no ip command.
func routingMarks(ctx context.Context) (uses []markUse, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		answers, err := askRouting(ctx, unix.RTM_GETRULE, append([]byte{family}, make([]byte, unix.SizeofRtMsg-1)...))
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // without IPv6, or without rules
		}
		if err != nil {
			return nil, fmt.Errorf("list the rules of routing: %w", err)
		}
		for _, m := range answers {
			if use, is := ruleMark(m.Data); is {
				uses = append(uses, use)
			}
		}
	}
	return uses, nil
}

// ruleMark reads a rule of routing, given the message after its header (struct fib_rule_hdr).
func ruleMark(msg []byte) (use markUse, is bool) {
	if len(msg) < unix.SizeofRtMsg {
		return use, false
	}
	attrs, err := netlink.NewAttributeDecoder(msg[unix.SizeofRtMsg:])
	if err != nil {
		return use, false
	}
	var priority, mark, mask uint32
	for attrs.Next() {
		switch attrs.Type() {
		case unix.FRA_PRIORITY:
			priority = attrs.Uint32()
		case unix.FRA_FWMARK:
			mark = attrs.Uint32()
		case unix.FRA_FWMASK:
			mask = attrs.Uint32()
		}
	}
	family := map[byte]string{unix.AF_INET: "-4", unix.AF_INET6: "-6"}[msg[0]]
	return markUse{fmt.Sprintf("ip %s rule %d: fwmark %#x/%#x", family, priority, mark, mask), mask}, attrs.Err() == nil && mask != 0
}

func askRouting(ctx context.Context, kind uint16, body []byte) ([]netlink.Message, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, has := ctx.Deadline(); has {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	return conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Dump}, Data: body,
	})
}
