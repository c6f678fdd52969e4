package sensor

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"culprit/internal/pattern"
	"culprit/sensor/automaton"
)

// What is looked for in other network namespaces, and the program made for it.

// A Want is what one rule looks for in the packets of other network namespaces.
type Want struct {
	Pattern   *pattern.Pattern // nil: what the list may mean
	List      string           // name of the rule whose list it is. Without [Lists] its packets are all reported, and nobody is stopped
	Protocols []string         // udp, tcp
	Families  []string         // ipv4, ipv6
	Ports     []int
}

// Lists say in the kernel whether a question may be on a list.
type Lists interface {
	// Function returns a BPF function with this name for a program that has the packet (struct __sk_buff) in R1, and in R2 which
	// lists to ask: those of the rules that have one of these bits. It returns 1 if one of the lists may mean a question, and 2 if the
	// message has an unusual form, or an exception of another list may mean it: then user space has to look, and nobody is stopped; or both.
	Function(bits map[string]uint64) (name string, function asm.Instructions)
}

// What the function of [Lists] returns.
const (
	mayBeListed  = 1
	notDecidable = 2
)

// wants are the maps and the program of one set of wants.
type wants struct {
	rows, ports *ebpf.Map
	prog        *ebpf.Program
}

// load makes the program for wants. lists may be nil.
func (e *egress) load(all []Want, lists Lists) (w *wants, err error) {
	w = new(wants)
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	c, err := compile(all)
	if err != nil {
		return w, err
	}
	const readOnly = unix.BPF_F_RDONLY_PROG
	rows := c.table.Bytes
	if w.rows, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_search", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(rows)), MaxEntries: 1, Flags: readOnly}); err != nil {
		return w, fmt.Errorf("make the map culprit_search: %w", err)
	}
	if err = w.rows.Put(uint32(0), rows); err != nil {
		return w, fmt.Errorf("fill the map culprit_search: %w", err)
	}
	if w.ports, err = ebpf.NewMap(&ebpf.MapSpec{Name: "culprit_ports", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: uint32(max(1, len(c.byPort))), Flags: readOnly}); err != nil {
		return w, fmt.Errorf("make the map culprit_ports: %w", err)
	}
	for port, mask := range c.byPort {
		if err = w.ports.Put(port, mask); err != nil {
			return w, fmt.Errorf("fill the map culprit_ports: %w", err)
		}
	}
	if w.prog, err = ebpf.NewProgram(e.write(w, c, lists)); err != nil {
		return w, fmt.Errorf("load the program for other network namespaces: %w", err)
	}
	return w, nil
}

// write writes the program for the maps of wants.
func (e *egress) write(w *wants, c *compiled, lists Lists) *ebpf.ProgramSpec {
	p := &egressProgram{
		assembler: assembler{layout: e.sensor.layout, maps: e.sensor.maps, asksTask: true}, netns: e.netns, snaplen: e.config.Snaplen,
		freeze: e.freezes, chosen: e.chosen, anyOf: c.anyOf, table: c.table, rows: w.rows, ports: w.ports, packets: e.packets, lost: e.lost, buckets: e.buckets, ones: e.ones,
	}
	if !e.config.Chosen {
		p.chosen = nil
	}
	for _, bit := range c.lists {
		p.listed |= bit
	}
	switch {
	case p.listed == 0:
	case lists == nil:
		p.anyOf, p.listed = p.anyOf|p.listed, 0
	default:
		p.lists, p.function = lists.Function(c.lists)
	}
	return p.spec()
}

// compiled are wants as the program knows them, by bits. The last bit may be that of several.
type compiled struct {
	table  *automaton.Table
	byPort map[uint32]uint64 // which may have a packet, by its kind and port
	anyOf  uint64            // those that have neither a pattern nor a list
	lists  map[string]uint64 // those that have a list
}

func compile(all []Want) (c *compiled, err error) {
	c = &compiled{byPort: map[uint32]uint64{}, lists: map[string]uint64{}}
	var entries []automaton.Entry
	for i, w := range all {
		bit := uint64(1) << min(i, 63)
		switch {
		case w.Pattern != nil:
			entries = append(entries, automaton.Entry{Pattern: *w.Pattern, Found: bit})
		case w.List != "":
			c.lists[w.List] = bit
		default:
			c.anyOf |= bit
		}
		for _, protocol := range w.Protocols {
			for _, family := range w.Families {
				var kind uint32
				if protocol == "tcp" {
					kind |= kindTCP
				}
				if family == "ipv6" {
					kind |= kindIPv6
				}
				c.byPort[kind] |= bit // any port, see whichWants
				for _, port := range w.Ports {
					c.byPort[kind|uint32(port)] |= bit
				}
			}
		}
	}
	c.table, err = automaton.New(entries)
	return c, err
}

func (w *wants) close() {
	if w.prog != nil {
		w.prog.Close()
	}
	for _, m := range []*ebpf.Map{w.rows, w.ports} {
		if m != nil {
			m.Close()
		}
	}
}
