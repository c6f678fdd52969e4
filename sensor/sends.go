package sensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/time/rate"
)

// How long we wait at least for what the kernel says about a packet that we have. In the way
// "mark" it says so after the NFLOG message, in "nflog" at the same time, in "rule" before it.
const (
	markPatience  = 20 * time.Millisecond
	nflogPatience = 5 * time.Millisecond
)

// A sender may lose its CPU just between the two, so we wait for longer, but not for each packet:
// of those that another rule drops before they get to a device the kernel never says anything.
const (
	morePatience      = 250 // milliseconds, at most at a time
	morePatienceShare = 100 // milliseconds a second
)

// forgetAfter is when the packet of a record is not expected any more.
const forgetAfter = time.Second

// Sends joins what the kernel said about senders with the packets that NFLOG logged. One goroutine
// owns it.
type Sends struct {
	sensor  *Sensor
	calls   map[uint32]string
	record  ringbuf.Record
	bySeq   map[uint32]Send
	asked   uint32        // the latest number of a message whose record was asked for
	most    int           // how large bySeq may become before it is looked through
	pending []Send        // known by their bytes, oldest first
	told    uint64        // by Lost
	more    *rate.Limiter // milliseconds that may be waited for over the least
}

// Packet is a logged packet.
type Packet struct {
	Received time.Time
	Seq      *uint32 // of the NFLOG message
	Data     []byte  // from the IP header
}

// Outcome says what Of found.
type Outcome int

// What Of can find.
const (
	Unseen    Outcome = iota // nothing
	Seen                     // the sender, if it is certain
	Ambiguous                // the same bytes were sent by several processes
)

// Sends returns what joins records and packets.
func (s *Sensor) Sends() *Sends {
	return &Sends{
		sensor: s, calls: sendingCalls(), bySeq: map[uint32]Send{}, most: manyLost,
		more: rate.NewLimiter(morePatienceShare, morePatience),
	}
}

// Of returns what the kernel saw of the sender of a packet. Each record is for one packet.
func (s *Sends) Of(p Packet) (Send, Outcome) {
	if s.sensor.way == WayNone {
		return Send{}, Unseen
	}
	s.read(time.Time{})
	send, found := s.take(p)
	if found != Unseen {
		return send, found
	}
	var least time.Time // the zero time is past
	switch s.sensor.way {
	case WayMark:
		least = p.Received.Add(markPatience)
	case WayNFLog:
		least = p.Received.Add(nflogPatience)
	default:
		return Send{}, Unseen
	}
	began := time.Now()
	until := least.Add(time.Duration(max(0, s.more.Tokens())) * time.Millisecond)
	for found == Unseen && time.Now().Before(until) && s.read(until) {
		send, found = s.take(p)
	}
	now := time.Now()
	if over := min(now.Sub(least), now.Sub(began)); over > 0 {
		s.more.ReserveN(now, min(int(over.Milliseconds()), morePatience))
	}
	return send, found
}

// Lost returns for how many packets what the kernel said was lost, since the last call.
func (s *Sends) Lost() uint64 {
	all := s.sensor.Lost() + s.sensor.counts.unread.Load()
	lost := all - s.told
	s.told = all
	return lost
}

// read takes in the records that are there, and waits for one until a time. It reports whether
// there was any.
func (s *Sends) read(until time.Time) (any bool) {
	r := s.sensor.sends
	if until.IsZero() && r.AvailableBytes() == 0 {
		return false
	}
	if until.IsZero() {
		until = time.Unix(1, 0)
	}
	r.SetDeadline(until)
	for {
		if err := r.ReadInto(&s.record); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				s.sensor.counts.unread.Add(1)
			}
			return any
		}
		any = true
		s.add(s.record.RawSample)
		if r.AvailableBytes() == 0 {
			return any
		}
	}
}

// add takes in a record.
func (s *Sends) add(b []byte) {
	send, err := decodeSend(b, s.calls)
	if err != nil {
		s.sensor.counts.unread.Add(1)
		return
	}
	s.sensor.counts.whyNot(binary.NativeEndian.Uint32(b[recWhyNot:]))
	s.forget(send.At.Add(-forgetAfter))
	if s.sensor.way == WayNFLog {
		seq, err := sequence(send.key)
		if err != nil {
			s.sensor.counts.unread.Add(1)
			return
		}
		send.key = nil
		s.bySeq[seq] = send
		return
	}
	neutralise(send.key)
	s.pending = append(s.pending, send)
}

// forget drops records from before a time.
func (s *Sends) forget(before time.Time) {
	n := 0
	for n < len(s.pending) && s.pending[n].At.Before(before) {
		n++
	}
	s.pending = s.pending[n:]
	s.sensor.counts.unjoined.Add(uint64(n))
	if len(s.bySeq) <= s.most {
		return
	}
	// Messages come in order. Those that still wait are as many as the queue of packets holds.
	for seq := range s.bySeq {
		if int32(seq-s.asked) < 0 {
			delete(s.bySeq, seq)
			s.sensor.counts.unjoined.Add(1)
		}
	}
	s.most = max(manyLost, 2*len(s.bySeq))
}

// manyLost is how many messages may be lost before their records are looked for.
const manyLost = 4096

// take finds the record of a packet, and removes it.
func (s *Sends) take(p Packet) (Send, Outcome) {
	if s.sensor.way == WayNFLog {
		if p.Seq == nil {
			return Send{}, Unseen
		}
		s.asked = *p.Seq
		send, found := s.bySeq[*p.Seq]
		delete(s.bySeq, *p.Seq)
		if !found {
			return Send{}, Unseen
		}
		return send, Seen
	}
	data := bytes.Clone(p.Data[:min(len(p.Data), keySize)])
	neutralise(data)
	first, others := -1, false
	for i, send := range s.pending {
		if len(send.key) < minKey || !bytes.HasPrefix(data, send.key) {
			continue
		}
		if first < 0 {
			first = i
		}
		others = others || send.Process != s.pending[first].Process || send.inContext != s.pending[first].inContext
	}
	if first < 0 {
		return Send{}, Unseen
	}
	send := s.pending[first]
	s.pending = slices.Delete(s.pending, first, first+1)
	if others {
		return Send{Hold: send.Hold}, Ambiguous
	}
	return send, Seen
}

// minKey is the least that tells packets apart: IP and UDP header.
const minKey = 28

// neutralise zeroes what the kernel and other rules may change in a packet between the two
// looks at it: DSCP, hop limit and checksums.
func neutralise(b []byte) {
	zero := func(from, to int) {
		if len(b) >= to {
			clear(b[from:to])
		}
	}
	if len(b) < 1 {
		return
	}
	header, protocol := 40, 6
	if b[0]>>4 == 4 {
		header, protocol = int(b[0]&0xf)*4, 9
		zero(1, 2)
		zero(8, 9)
		zero(10, 12)
	} else {
		zero(0, 4)
		zero(7, 8)
	}
	if len(b) <= protocol {
		return
	}
	switch b[protocol] {
	case 17:
		zero(header+6, header+8)
	case 6:
		zero(header+16, header+18)
	}
}
