package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// iptables-nft creates the nftables table for an iptables table with its first chain, and never
// removes it. This file reads such tables and removes those that we created.

// An nftTable is what nf_tables holds under the name of an iptables table.
type nftTable struct {
	family nftables.TableFamily
	name   string
	exists bool
	chains []string
	uses   int // chains, sets, objects and flow tables in it (NFTA_TABLE_USE)
	// generation of the whole rule set, read before everything else. The kernel refuses a
	// change that names it if anybody has changed anything since.
	generation uint32
}

// readNFT reads a table in the network namespace of the calling thread. It creates nothing.
func readNFT(family, table string) (nftTable, error) {
	t := nftTable{family: nftables.TableFamilyIPv4, name: table}
	if family == "ipv6" {
		t.family = nftables.TableFamilyIPv6
	}
	fail := func(err error) (nftTable, error) {
		return t, explain(family, table, fmt.Errorf("ask nf_tables for table %s of %s: %w", table, family, err))
	}
	var err error
	if t.generation, err = nftGeneration(); err != nil {
		return fail(err)
	}
	conn, err := nftables.New()
	if err != nil {
		return fail(err)
	}
	found, err := conn.ListTableOfFamily(table, t.family)
	if errors.Is(err, unix.ENOENT) {
		return t, nil
	}
	if err != nil {
		return fail(err)
	}
	t.exists = true
	// The library reads this big-endian number (nf_tables_fill_table_info in
	// net/netfilter/nf_tables_api.c) in the byte order of the machine.
	t.uses = int(binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, found.Use)))
	chains, err := conn.ListChainsOfTableFamily(t.family)
	if err != nil {
		return fail(err)
	}
	for _, c := range chains {
		if c.Table != nil && c.Table.Name == table {
			t.chains = append(t.chains, c.Name)
		}
	}
	return t, nil
}

// holdsOnly reports whether the table holds nothing but the given chains: no other chain, and
// no set, object or flow table either.
func (t nftTable) holdsOnly(chains ...string) bool {
	if t.uses != len(t.chains) {
		return false
	}
	return !slices.ContainsFunc(t.chains, func(c string) bool { return !slices.Contains(chains, c) })
}

// delete removes the table with everything in it. If anything in the firewall changed since
// readNFT, it does not, and returns [unix.ERESTART].
func (t nftTable) delete() error {
	return nftChange(t.generation, netlink.Message{
		Header: nftHeader(unix.NFT_MSG_DELTABLE, netlink.Request|netlink.Acknowledge),
		Data: append(nfgenmsg(byte(t.family), 0), attributes(
			netlink.Attribute{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(t.name), 0)})...),
	})
}

// deleteChain removes an empty chain under the same condition. If the chain holds rules the
// kernel refuses with EBUSY, which it does only because of NLM_F_NONREC (see
// nf_tables_delchain).
func (t nftTable) deleteChain(chain string) error {
	return nftChange(t.generation, netlink.Message{
		Header: nftHeader(unix.NFT_MSG_DELCHAIN, netlink.Request|netlink.Acknowledge|unix.NLM_F_NONREC),
		Data: append(nfgenmsg(byte(t.family), 0), attributes(
			netlink.Attribute{Type: unix.NFTA_CHAIN_TABLE, Data: append([]byte(t.name), 0)},
			netlink.Attribute{Type: unix.NFTA_CHAIN_NAME, Data: append([]byte(chain), 0)})...),
	})
}

// nftGeneration asks for the current generation number of the rule set.
func nftGeneration() (uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	replies, err := conn.Execute(netlink.Message{
		Header: nftHeader(unix.NFT_MSG_GETGEN, netlink.Request),
		Data:   nfgenmsg(unix.AF_UNSPEC, 0),
	})
	if err != nil {
		return 0, err
	}
	for _, m := range replies {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, err
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("no generation in the kernel's answer")
}

// nftChange makes one change as a batch that is bound to a generation, which
// github.com/google/nftables cannot do. Deleting a table deletes everything in it, so without
// the generation a chain that somebody adds at the last moment would go too. The kernel has
// checked it since 2017 (NFNL_BATCH_GENID, nfnetlink_rcv_batch in net/netfilter/nfnetlink.c).
func nftChange(generation uint32, change netlink.Message) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	begin := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request},
		Data: append(nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES), attributes(
			netlink.Attribute{Type: unix.NFNL_BATCH_GENID, Data: binary.BigEndian.AppendUint32(nil, generation)})...),
	}
	end := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request},
		Data:   nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	}
	if _, err := conn.SendMessages([]netlink.Message{begin, change, end}); err != nil {
		return err
	}
	// The first answer decides: an error of the batch or of the change, or the acknowledgement.
	_, err = conn.Receive()
	return err
}

func nftHeader(message int, flags netlink.HeaderFlags) netlink.Header {
	return netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | message), Flags: flags}
}

// nfgenmsg is the header of every message to netfilter (struct nfgenmsg in
// linux/netfilter/nfnetlink.h).
func nfgenmsg(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

func attributes(as ...netlink.Attribute) []byte {
	// Only attributes of 64 KiB and more make it fail.
	b, _ := netlink.MarshalAttributes(as)
	return b
}
