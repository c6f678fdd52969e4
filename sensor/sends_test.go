package sensor

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"culprit/internal/testkit"
)

// theRecord is what the program says of a packet of a process, with the NFLOG message of that number.
func theRecord(pid, seq uint32) []byte {
	b := make([]byte, recSize)
	binary.NativeEndian.PutUint64(b[recTime:], uint64(monotonic()))
	binary.NativeEndian.PutUint64(b[recPIDs:], uint64(pid)<<32|uint64(pid))
	binary.NativeEndian.PutUint32(b[recKeyLen:], keySize)
	attribute := b[recKey+16+4:]
	binary.NativeEndian.PutUint16(attribute, 8)
	binary.NativeEndian.PutUint16(attribute[2:], nfulaSeq)
	binary.BigEndian.PutUint32(attribute[4:], seq)
	return b
}

// However many packets wait, their records wait, too. Records of packets that were lost do not stay.
func TestSendsOfFlood(t *testing.T) {
	t.Parallel()
	sensor := &Sensor{way: WayNFLog}
	s := sensor.Sends()
	const waiting, lost = 20_000, 100_000
	first := ^uint32(0) - 100 // the number wraps around
	before := first - 1
	s.take(Packet{Received: time.Now(), Seq: &before})
	for i := range uint32(waiting) {
		s.add(theRecord(i, first+i))
	}
	for i := range uint32(waiting) {
		seq := first + i
		if send, found := s.take(Packet{Received: time.Now(), Seq: &seq}); found != Seen || send.TID != int(i) {
			t.Fatalf("the record of packet %d is %+v, %v", i, send, found)
		}
	}
	for i := range uint32(lost) {
		s.add(theRecord(i, first+waiting+i))
		if seq := first + waiting + i; i%1000 == 999 {
			s.take(Packet{Received: time.Now(), Seq: &seq})
		}
	}
	if len(s.bySeq) > 2*manyLost+1000 {
		t.Errorf("%d records are kept", len(s.bySeq))
	}
	if n := sensor.counts.unjoined.Load(); n+uint64(len(s.bySeq)) != lost-lost/1000 {
		t.Errorf("%d records are counted as lost, and %d are kept, of %d", n, len(s.bySeq), lost)
	}
}

// A record that is late is waited for, out of what is saved: those that never come may not take all
// of the time.
func TestPatience(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	r, err := ringbuf.NewReader(ring)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := (&Sensor{way: WayMark, sends: r}).Sends()
	of := func() time.Duration {
		t.Helper()
		p := Packet{Received: time.Now(), Data: make([]byte, minKey)}
		if _, found := s.Of(p); found != Unseen {
			t.Fatalf("%v", found)
		}
		return time.Since(p.Received)
	}
	if took, want := of(), markPatience+(morePatience-10)*time.Millisecond; took < want {
		t.Errorf("the first is waited for for %v, want %v", took, want)
	}
	if left := s.more.Tokens(); left >= morePatience {
		t.Errorf("%v ms are left", left)
	}
	s.more.SetLimit(0)
	s.more.ReserveN(time.Now(), morePatience)
	if took := of(); took < markPatience/2 {
		t.Errorf("with nothing saved it is waited for for %v, want %v", took, markPatience)
	}
}
