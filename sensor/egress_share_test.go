package sensor

import (
	"testing"

	"github.com/cilium/ebpf"

	"culprit/internal/testkit"
)

// Nobody reads. A flood out of one namespace fills half of the ring, and then has a thousand packets per second: a packet of another
// one finds room. All go out, and who lost how many is told.
func TestEgressShare(t *testing.T) {
	t.Parallel()
	f := openEgress(t, 2048, badzone)
	const record = egrPacket + 2048 + 8 // with its header, see ringbuf_record_size in kernel/bpf/ringbuf.c
	const fits = packetsSize / ((record + 7) &^ 7)
	flood := func(packets uint32) {
		t.Helper()
		data := append(make([]byte, 12), append([]byte{0x08, 0x00}, ipv4("192.0.2.1", 0, udp(53, "BADZONE"))...)...)
		if result, err := f.egress.wants.prog.Run(&ebpf.RunOptions{Data: data, Repeat: packets}); err != nil || result != 1 {
			t.Fatalf("the program says %d, %v", result, err)
		}
	}
	flood(2 * fits)
	kept := f.egress.reader.AvailableBytes() / record
	lost := f.Lost()
	if len(lost) != 1 || lost[0].From == (From{}) || int(lost[0].Count)+kept != 2*fits {
		t.Errorf("of %d packets %d wait, and lost are %+v", 2*fits, kept, lost)
	}
	if kept < fits/2 || kept > fits*9/10 {
		t.Errorf("%d packets of the flood wait, in a ring for %d", kept, fits)
	}
	if again := f.Lost(); again != nil {
		t.Errorf("%+v is told once more", again)
	}
	for range 3 {
		n := testkit.NewNet(t)
		before := f.egress.reader.AvailableBytes()
		n.Do(func() { flood(1) })
		if f.egress.reader.AvailableBytes() == before {
			t.Error("another namespace's packet found no room")
		}
		flood(fits)
	}
	if more := f.Lost(); len(more) != 1 || more[0].From != lost[0].From {
		t.Errorf("lost are %+v, and before %+v", more, lost)
	}
}

// What the buckets do not say is nobody's; a bucket that was forgotten begins again.
func TestLosses(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: fromSize, ValueSize: bucketSize, MaxEntries: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var l losses
	web, mail := From{Cgroup: 77}, From{Netns: 4026531999}
	for _, tt := range []struct {
		all, web, mail uint64
		want           []Lost
	}{
		{0, 0, 0, nil},
		{10, 7, 0, []Lost{{web, 7}, {From{}, 3}}},
		{10, 7, 0, nil},
		{15, 7, 5, []Lost{{mail, 5}}},
		{17, 2, 5, []Lost{{web, 2}}},
		{18, 5, 5, []Lost{{web, 1}}}, // two are not in the sum yet
		{20, 5, 5, []Lost{{web, 2}}},
	} {
		for from, n := range map[From]uint64{web: tt.web, mail: tt.mail} {
			if err := m.Put(from, [bucketSize / 8]uint64{1, n}); err != nil {
				t.Fatal(err)
			}
		}
		got := l.since(m, tt.all)
		if len(got) != len(tt.want) {
			t.Fatalf("of %d lost are %+v, want %+v", tt.all, got, tt.want)
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("of %d lost are %+v, want %+v", tt.all, got, tt.want)
			}
		}
	}
}
