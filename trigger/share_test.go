package trigger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/sensor"
)

// A flood in another namespace takes neither the rate of our own hits nor that of a third one.
func TestFloodElsewhere(t *testing.T) {
	t.Parallel()
	p := mustProcessor(t, "rules: [{name: text, string: badzone}]\nnflog: {rate: 1}")
	p.others, p.namespaces = others{map[uint32]bool{}}, newNamespaces([]string{"all"})
	out := newCollector()
	packet := func(i uint16) []byte {
		return ip(t, "10.0.0.1", "10.0.0.2", udp(4000+i, 53), query(i, "\x07badzone\x04test", 1))
	}
	const flood = 100
	for i := range uint16(flood) {
		p.other(foreign(9, packet(i), ""), out)
	}
	hits := len(out.hits)
	if hits > 10 {
		t.Errorf("of a flood of %d packets %d are hits, at one per second", flood, hits)
	}
	p.other(foreign(10, packet(0), ""), out)
	p.packet(nflogPacket{rule: "text", data: packet(0)}, 0, out)
	if len(out.hits) != hits+2 {
		t.Errorf("of another namespace's packet and ours %d are hits", len(out.hits)-hits)
	}
	p.shares.report(p.place, out)
	if len(out.losses) != 1 || out.losses[0].Culprit != (event.LossDetail{Code: event.LossRate, Detail: "network namespace 9", Count: uint64(flood - hits)}) {
		t.Errorf("lost are %+v", out.losses)
	}
}

// Who makes up senders takes what there is to spare, and no more. What is told of them is bounded.
func TestManyShares(t *testing.T) {
	t.Parallel()
	s, out, now := newShares(10), newCollector(), time.Now()
	allowed := 0
	for i := range uint32(2 * maxShares) {
		from := sensor.From{Netns: 1 + i}
		if s.allow(from, now) {
			allowed++
		} else {
			s.lose(event.LossRate, from, 1)
		}
	}
	s.lose(event.LossRate, sensor.From{Netns: 2 * maxShares}, 5)
	if allowed != 100 || len(s.own) > maxShares || len(s.lost) > maxShares+1 {
		t.Errorf("%d had a hit, and %d and %d are remembered", allowed, len(s.own), len(s.lost))
	}
	s.report(func(f sensor.From) (event.Place, string) { return event.Place{}, fmt.Sprint(f.Netns) }, out)
	if len(out.losses) != maxLosers+1 || out.lost[event.LossRate] != 2*maxShares-100+5 {
		t.Errorf("%d losses of %d packets are told, want %d", len(out.losses), out.lost[event.LossRate], maxLosers+1)
	}
}

// What is somebody's counts as one, the outermost first. What is nobody's is looked at again after a second, and what is remembered is bounded.
func TestHolders(t *testing.T) {
	t.Parallel()
	h, now, looked := newHolders(), time.Now(), 0
	find := func(ids []uint64) uint64 {
		looked++
		if slices.Contains(ids, 7) {
			return 7
		}
		return 0
	}
	for _, tt := range []struct {
		cgroups []uint64
		after   time.Duration
		want    uint64
		looked  int
	}{
		{nil, 0, 0, 0},
		{[]uint64{2, 3}, 0, 0, 1},
		{[]uint64{2, 3}, noneFor - 1, 0, 1},
		{[]uint64{2, 3}, noneFor, 0, 2},
		{[]uint64{2, 7, 4}, 0, 7, 3},
		{[]uint64{2, 7, 5, 6}, 0, 7, 3},
	} {
		if got := h.of(tt.cgroups, now.Add(tt.after), find); got != tt.want || looked != tt.looked {
			t.Errorf("%+v: %d, and %d were looked for", tt, got, looked)
		}
	}
	for i := range uint64(2 * maxShares) {
		h.of([]uint64{100 + i}, now, find)
	}
	if len(h.none) > maxShares || len(h.known) > maxShares {
		t.Errorf("%d and %d are remembered", len(h.none), len(h.known))
	}
}
