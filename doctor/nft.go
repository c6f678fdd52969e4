package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nftFamilies names the families as nft(8) does.
var nftFamilies = map[byte]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_ARP: "arp",
	unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV6: "ip6",
}

// nftRules names the tables of nf_tables that hold rules, with their numbers. It asks the
// kernel itself (net/netfilter/nf_tables_api.c), because a machine that uses the legacy backend
// may have no nft command.
func nftRules(ctx context.Context) ([]string, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	defer conn.Close()
	if deadline, has := ctx.Deadline(); has {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("set a deadline: %w", err)
		}
	}
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{unix.NFPROTO_UNSPEC, unix.NFNETLINK_V0, 0, 0}, // struct nfgenmsg
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without nf_tables
	}
	if err != nil {
		return nil, fmt.Errorf("list the rules of nf_tables: %w", err)
	}
	counts := make(map[string]int)
	for _, m := range answers {
		if table, err := nftTable(m.Data); err == nil {
			counts[table]++
		}
	}
	var found []string
	for table, n := range counts {
		found = append(found, fmt.Sprintf("%s (%d)", table, n))
	}
	slices.Sort(found)
	return found, nil
}

// nftTable returns the family and table of a rule, given the message after its header.
func nftTable(msg []byte) (string, error) {
	if len(msg) < 4 {
		return "", fmt.Errorf("read a rule of nf_tables: %d bytes are too few", len(msg))
	}
	family, known := nftFamilies[msg[0]]
	if !known {
		family = fmt.Sprintf("family %d", msg[0])
	}
	attrs, err := netlink.NewAttributeDecoder(msg[4:])
	if err != nil {
		return "", fmt.Errorf("read a rule of nf_tables: %w", err)
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_RULE_TABLE {
			return family + " " + attrs.String(), nil
		}
	}
	return "", fmt.Errorf("read a rule of nf_tables: it names no table")
}
