package proof

import (
	"bytes"
	"net/netip"
	"slices"
)

const (
	// maxJoin is how many writes to a socket can make up one packet.
	maxJoin = 64
	// minKnown is how many bytes there must be to compare: a DNS message's id and flags.
	minKnown = 4
)

// agree compares addresses. !ok means that the packet cannot come from this send, !sure that the
// addresses do not all agree, or that none is shown.
//
// strace looks up a socket once, so the addresses of a descriptor may be out of date. And a rule of
// ours that comes after DNAT sees another destination. So we believe addresses only if the local
// port agrees, and rule a send out only if it does not.
func (p *packet) agree(s *sent) (ok, sure bool) {
	if p.foreign(s.Send) {
		return false, false
	}
	local := s.Local.Port() != 0 && p.src.Port() != 0
	remote := s.Remote
	if named := s.message.Remote; named.IsValid() && (p.transport == "udp" || !remote.IsValid()) {
		if contradict(named, p.dst) {
			return false, false
		}
		remote = named
	}
	if contradict(s.Local, p.src) || contradict(remote, p.dst) {
		return local, false
	}
	return true, p.src.Port() != 0 && (local || remote.IsValid())
}

// foreign reports whether a packet cannot come from a socket.
func (p *packet) foreign(s *Send) bool {
	if s.Transport != "" && s.Transport != p.transport {
		return true
	}
	return s.Local.Port() != 0 && p.src.Port() != 0 && s.Local.Port() != p.src.Port()
}

// contradict reports whether both addresses are known and differ. An address of zeros and the port
// 0 count as unknown.
func contradict(a, b netip.AddrPort) bool {
	if a.Addr().IsValid() && !a.Addr().IsUnspecified() && a.Addr().WithZone("") != b.Addr() {
		return true
	}
	return a.Port() != 0 && b.Port() != 0 && a.Port() != b.Port()
}

// fit returns the sends of a socket that the packet comes from, up to the one that sent what the rule
// matched, if its last byte comes from run[last]. probable means that some bytes could not be
// compared; of a datagram, least must.
func (p *packet) fit(run []*sent, last, least int, scratch *[]byte) (pieces []*sent, probable, ok bool) {
	if p.transport == "udp" {
		first, complete, ok := p.datagram(run, last, least)
		if !ok {
			return nil, false, false
		}
		return run[first : last+1], !complete || p.truncated, true
	}
	first, skip, ok := p.contained(run, last, scratch) // the segment begins skip bytes into run[first]
	complete := ok
	if !ok {
		first, ok = p.aligned(run, last)
	}
	if !ok {
		return nil, false, false
	}
	pieces, sure := p.carriers(run[first:last+1], skip)
	return pieces, !complete || !sure || p.truncated, true
}

// datagram compares the packet with a message of the same length: one send, or several that the
// kernel joined (MSG_MORE, UDP_CORK). complete means that all bytes agree, and that the trace shows
// that just these sends were joined.
func (p *packet) datagram(run []*sent, last, least int) (first int, complete, ok bool) {
	total := 0
	pushed := run[last].Cork == CorkOff
	joined := pushed || !run[last].more()
	for first = last; first >= 0 && last-first < maxJoin; first-- {
		s := run[first]
		if first < last {
			if s.Cork != CorkNone {
				break // what is before it is another packet
			}
			joined = joined && (pushed || s.more())
		}
		total += s.size
		switch {
		case p.total >= 0 && total < p.total, total == 0:
			continue
		case p.total >= 0 && total > p.total:
			return 0, false, false
		}
		// The total of a later fragment is not known: it is compared with one send.
		complete, ok = p.compare(run[first:last+1], p.offset, least)
		longer := first > 0 && run[first-1].Cork == CorkNone && run[first-1].more()
		return first, complete && joined && !longer, ok
	}
	return 0, false, false
}

// compare compares the payload with the known bytes of sends, from the given byte on. The payload
// must end where they end, or before, and least of its bytes must be known.
func (p *packet) compare(pieces []*sent, begin, least int) (complete, ok bool) {
	at, known, end := 0, 0, begin+len(p.payload)
	for _, s := range pieces {
		from, to := max(at, begin), min(at+len(s.message.Data), end)
		if from < to {
			if !bytes.Equal(s.message.Data[from-at:to-at], p.payload[from-begin:to-begin]) {
				return false, false
			}
			known += to - from
		}
		at += s.size
	}
	return known == len(p.payload), end <= at && known >= min(least, len(p.payload))
}

// contained looks for the segment in the bytes of a connection. It must end in the last send: in
// earlier ones we looked when they were the last.
func (p *packet) contained(run []*sent, last int, scratch *[]byte) (first, skip int, ok bool) {
	length := len(run[last].message.Data)
	for first = last; first > 0 && last-first < maxJoin; first-- {
		before := run[first-1].message
		if length >= len(run[last].message.Data)+len(p.payload)-1 || before.Cut() {
			break
		}
		length += len(before.Data)
	}
	if length < len(p.payload) {
		return 0, 0, false
	}
	all := (*scratch)[:0]
	for _, s := range run[first : last+1] {
		all = append(all, s.message.Data...)
	}
	*scratch = all
	skip = bytes.LastIndex(all, p.payload)
	return first, skip, skip >= 0 && skip+len(p.payload) > len(all)-len(run[last].message.Data)
}

// aligned compares the segment with sends that strace cut. We only know where those begin, so the
// segment has to begin with one of them.
func (p *packet) aligned(run []*sent, last int) (first int, ok bool) {
	total := 0
	for first = last; first >= 0 && last-first < maxJoin; first-- {
		if total >= len(p.payload) {
			return 0, false // it would end before the last
		}
		total += run[first].size
		if total >= len(p.payload) {
			if _, ok := p.compare(run[first:last+1], 0, minKnown); ok {
				return first, true
			}
		}
	}
	return 0, false
}

// carriers returns the sends of a segment up to the one with the last byte of what the rule matched.
// It is not sure if we do not know what matched, and several threads sent the segment.
func (p *packet) carriers(pieces []*sent, begin int) (until []*sent, sure bool) {
	at := 0
	pieces, begin = trim(pieces, begin)
	end, known := p.matched()
	for i, s := range pieces {
		if at += s.size; at >= begin+end {
			return pieces[:i+1], known || !slices.ContainsFunc(pieces, func(o *sent) bool { return o.TID != s.TID })
		}
	}
	return pieces, len(pieces) == 1
}

// trim drops sends that end before the packet begins.
func trim(pieces []*sent, begin int) ([]*sent, int) {
	for len(pieces) > 1 && begin >= pieces[0].size {
		begin -= pieces[0].size
		pieces = pieces[1:]
	}
	return pieces, begin
}
