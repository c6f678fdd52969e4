package sensor

import (
	"encoding/binary"
	"testing"
	"time"
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
