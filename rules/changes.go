package rules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"culprit/internal/bell"
)

// nftChanges returns a channel that receives after nf_tables was changed, once for any number of
// changes, in the network namespace of the calling thread. It is closed when the context ends, or
// if the kernel no longer tells.
func nftChanges(ctx context.Context) (<-chan struct{}, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("ask nf_tables for its changes: %w", err)
	}
	if err := listenForGenerations(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("ask nf_tables for its changes: %w", err), conn.Close())
	}
	changes := bell.New()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer close(changes)
		defer conn.Close()
		defer stop()
		for {
			// What found no room, or no memory in the kernel, was a change, too.
			if _, err := conn.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			changes.Ring()
		}
	}()
	return changes, nil
}

// listenForGenerations makes the socket receive the number of each new generation, which comes with
// each change, and nothing of what was changed, which can be much.
func listenForGenerations(conn *netlink.Conn) error {
	kind := binary.NativeEndian.AppendUint16(nil, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 2}, // nlmsg_type, which BPF takes for big-endian
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(kind)), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	})
	if err != nil {
		return err
	}
	return errors.Join(conn.SetBPF(filter), conn.JoinGroup(unix.NFNLGRP_NFTABLES))
}
