package trigger

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"culprit/internal/dns"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/sensor"
)

// Others give the packets of other network namespaces, a [sensor.OtherPackets]. These do not come from NFLOG, and are
// for no rule yet: the kernel looks for what any rule looks for, on the ports of any rule.
type Others interface {
	// Next waits for the next packet, until the context ends.
	Next(context.Context) (sensor.OtherPacket, error)
	// Flush makes Next return [sensor.ErrFlushed] once it has given all packets of before.
	Flush() error
	// Lost returns how many packets were lost, since the last call, and whose.
	Lost() []sensor.Lost
	// Choose says whether senders in a network namespace are to be stopped, by its inode.
	Choose(netns uint32, stop bool) error
	// CountAsOne says that all cgroups inside of one are the same sender, by its id.
	CountAsOne(cgroup uint64) error
}

// noOthers are none.
type noOthers struct{}

func (noOthers) Next(ctx context.Context) (sensor.OtherPacket, error) {
	<-ctx.Done()
	return sensor.OtherPacket{}, ctx.Err()
}
func (noOthers) Flush() error              { return errNoOthers }
func (noOthers) Lost() []sensor.Lost       { return nil }
func (noOthers) Choose(uint32, bool) error { return nil }
func (noOthers) CountAsOne(uint64) error   { return nil }

var errNoOthers = errors.New("packets of other network namespaces are not read")

// ReadOthers makes [Listener.Run] read the packets of other network namespaces, too: of those that are named
// as in the configuration. Call it before that.
func (l *Listener) ReadOthers(o Others, named []string) {
	l.proc.others, l.proc.fromOthers, l.proc.othersEnd = o, l.others, l.othersEnd
	l.proc.namespaces = newNamespaces(named)
}

// readOthers gives the packets of other namespaces to the processor, one by one, until the context ends. It may wait: the
// kernel counts what finds no room meanwhile. A packet of nobody says that all were given that the kernel had seen
// when [Others.Flush] was called.
func (l *Listener) readOthers(ctx context.Context) error {
	defer close(l.othersEnd)
	for {
		f, err := l.proc.others.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		in := nflogPacket{time: f.At, uid: &f.SocketUID, data: f.Data, other: &f}
		if errors.Is(err, sensor.ErrFlushed) {
			in, err = nflogPacket{}, nil
		}
		if err != nil {
			return err
		}
		select {
		case l.others <- in:
		case <-ctx.Done():
			return nil
		}
	}
}

// maxCatchUp and maxCatchUpFor bound how many packets of others one of ours waits for, and how long: names of containers may be on file
// systems that hang.
const (
	maxCatchUp    = 128
	maxCatchUpFor = 250 * time.Millisecond
)

// catchUp decides on what was sent in other namespaces before the packet in hand. A forwarder sends on what it got from
// there, and must not be taken for the sender because its packet is read first. There is an end to it: a flood there must
// not hold our own packets up, and then the forwarder's packet is one as any, and is counted.
func (p *processor) catchUp(out Output) {
	if p.awaited {
		p.lost[event.LossUnawaited]++ // what was waited for before is not all there yet
		return
	}
	if p.others.Flush() != nil {
		return
	}
	p.awaited = true
	end := time.NewTimer(p.catchUpFor)
	defer end.Stop()
	for range maxCatchUp {
		select {
		case <-end.C: // also if more is there
			p.lost[event.LossUnawaited]++
			return
		default:
		}
		select {
		case in := <-p.fromOthers:
			if p.other(in, out); !p.awaited {
				return
			}
		case <-p.othersEnd:
			return
		case <-end.C:
			p.lost[event.LossUnawaited]++
			return
		}
	}
	p.lost[event.LossUnawaited]++
}

// other decides for each rule whether a packet of another namespace is a hit.
func (p *processor) other(in nflogPacket, out Output) {
	f := in.other
	if f == nil { // see readOthers
		p.awaited = false
		return
	}
	hold := f.Hold
	defer func() {
		if hold != 0 {
			out.LetGo(hold)
		}
	}()
	in.from = p.from(in)
	pkt, err := p.decoder.decode(in.data)
	if err != nil {
		return
	}
	netns := event.Namespace{Inode: f.Netns, Name: p.namespaces.name(f.Netns)}
	var sender proc.ID
	var place *event.Place
	if f.Certain() {
		sender = f.Process
		place = p.namespaces.placeOf(f.Send, p.finder.containers)
	} else {
		place = p.namespaces.placeOfSocket(f.SocketCgroup, p.finder.containers)
	}
	wanted := p.namespaces.wants(netns, place)
	_ = p.others.Choose(f.Netns, wanted) // otherwise the next one stands still for a moment, too
	if !wanted {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.rules)) {
		rule := p.rules[name]
		if !rule.means(f, pkt) {
			continue
		}
		in.rule = name
		h := p.hit(in, rule, sender)
		if h == nil {
			continue
		}
		where := netns
		if f.Certain() {
			where.Owner = p.finder.served.owner(f)
		}
		h.Culprit.Netns = &where
		h.Hold, hold = hold, 0
		if !p.finder.saw(h, f.Send, 0) {
			// sock_diag and the processes of the same UID are those of our own namespace.
			h.Culprit.Origin.Grade = event.GradeNone
			h.Culprit.Origin.Reason = &event.Unattributed{Code: event.UnattributedContext}
			p.finder.locateSocket(h, f.SocketCgroup)
		}
		out.Hit(h)
	}
}

// means reports whether a rule looks at a packet of another namespace, and its pattern is in it. The packet may have
// got another destination by DNAT: where it was sent counts, too, and where its socket is connected to. What goes to Docker's resolver
// counts whatever its port, unless it is an answer.
func (r *Rule) means(f *sensor.OtherPacket, pkt packet) bool {
	to := netip.AddrPortFrom(pkt.destination.IP, pkt.destination.Port)
	switch {
	case !slices.Contains(r.Protocols, pkt.network.Transport), !slices.Contains(r.Families, pkt.network.Type):
		return false
	case r.List == nil && !r.Pattern.Matches(pkt.payload):
		return false
	}
	return slices.ContainsFunc([]netip.AddrPort{to, f.Named, f.To}, r.reaches) || to.Addr() == sensor.DockerResolver() && r.within(to.Addr()) && asks(pkt)
}

// asks reports whether a packet may be a question by UDP, and is no answer.
func asks(pkt packet) bool {
	const flags = 2
	return pkt.network.Transport == "udp" && len(pkt.payload) > flags && pkt.payload[flags]&dns.IsAnswer == 0
}

// reaches reports whether the rule looks at what goes to an address.
func (r *Rule) reaches(to netip.AddrPort) bool {
	return slices.Contains(r.Ports, int(to.Port())) && r.within(to.Addr())
}

func (r *Rule) within(to netip.Addr) bool {
	return len(r.To) == 0 || slices.ContainsFunc(r.To, func(p netip.Prefix) bool { return p.Contains(to) })
}
