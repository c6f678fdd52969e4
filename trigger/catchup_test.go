package trigger

import (
	"fmt"
	"testing"
	"time"

	"culprit/internal/event"
)

// late gives packets of other namespaces when it is asked for all that were before, and then says that these were all.
type late struct {
	others
	packets, flushed int
	to               chan nflogPacket
	packet           nflogPacket
}

func (l *late) Flush() error {
	l.flushed++
	go func() {
		for range l.packets {
			l.to <- l.packet
		}
		l.to <- nflogPacket{}
	}()
	return nil
}

// What was sent in another namespace before our packet is a hit before it, although it is read later: a forwarder's packet would be
// the sender's otherwise. A flood there ends that, and is caught up with before the next time.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ packets, before int }{{0, 0}, {2, 2}, {1000, maxCatchUp}} {
		p := mustProcessor(t, "rules: [{name: text, string: badzone}]")
		packets := make(chan nflogPacket)
		o := &late{others: others{map[uint32]bool{}}, packets: tt.packets, to: packets}
		p.catchUpFor = time.Hour
		p.others, p.fromOthers, p.othersEnd, p.namespaces = o, packets, make(chan struct{}), newNamespaces([]string{"all"})
		o.packet = foreign(9, ip(t, "10.0.0.1", "10.0.0.2", udp(4000, 53), query(1, "\x07badzone\x04test", 1)), "")
		out := newCollector()
		ours := func(port uint16) {
			p.packet(nflogPacket{rule: "text", data: ip(t, "192.0.2.1", "192.0.2.2", udp(port, 53), query(1, "\x07badzone\x04test", 1))}, 0, out)
		}
		ours(1)
		var order []string
		for _, h := range out.hits {
			where := "ours"
			if h.Culprit.Netns != nil {
				where = "other"
			}
			order = append(order, where)
		}
		// Packets that say the same are one hit; each process that stood still for one goes on.
		want := []string{"ours"}
		if tt.packets > 0 {
			want = []string{"other", "ours"}
		}
		if fmt.Sprint(order) != fmt.Sprint(want) || len(out.let) != max(0, tt.before-1) {
			t.Errorf("%d packets: hits %v, %d let go, want %v, %d", tt.packets, order, len(out.let), want, tt.before-1)
		}
		if left := p.lost[event.LossUnawaited] > 0; left != (tt.packets > maxCatchUp) {
			t.Errorf("%d packets: %d are counted as left out", tt.packets, p.lost[event.LossUnawaited])
		}
		if tt.packets > maxCatchUp {
			if ours(2); o.flushed != 1 {
				t.Errorf("asked again for all before, before the first answer")
			}
		}
		for p.awaited {
			p.other(<-packets, out)
		}
		if ours(3); o.flushed != 2 {
			t.Errorf("%d packets: asked %d times for all before", tt.packets, o.flushed)
		}
		for p.awaited {
			p.other(<-packets, out)
		}
	}
}

// When the reader of other namespaces has ended, nobody waits for it.
func TestCatchUpAtTheEnd(t *testing.T) {
	t.Parallel()
	p := mustProcessor(t, "rules: [{name: text, string: badzone}]")
	end := make(chan struct{})
	close(end)
	o := &late{others: others{map[uint32]bool{}}, to: make(chan nflogPacket, 1)}
	p.others, p.fromOthers, p.othersEnd, p.namespaces = o, make(chan nflogPacket), end, newNamespaces([]string{"all"})
	p.catchUp(newCollector())
}

// A packet that does not wait, because too many are behind it, is counted where packets of others are read.
func TestNoCatchUpWhenBusy(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{true, false} {
		p := mustProcessor(t, "rules: [{name: text, string: badzone}]")
		if reads {
			p.othersEnd = make(chan struct{})
		}
		out := newCollector()
		in := nflogPacket{rule: "text", data: ip(t, "192.0.2.1", "192.0.2.2", udp(1, 53), query(1, "\x07badzone\x04test", 1))}
		p.packet(in, busyBacklog+1, out)
		if n := p.lost[event.LossUnawaited]; len(out.hits) != 1 || n > 0 != reads {
			t.Errorf("others are read: %v: %d hits, counted are %d", reads, len(out.hits), n)
		}
	}
}

// What never comes is not waited for, and that is counted.
func TestCatchUpIsBounded(t *testing.T) {
	t.Parallel()
	p := mustProcessor(t, "rules: [{name: text, string: badzone}]")
	o := &late{others: others{map[uint32]bool{}}, to: make(chan nflogPacket, 1)}
	p.others, p.fromOthers, p.othersEnd, p.namespaces = o, make(chan nflogPacket), make(chan struct{}), newNamespaces([]string{"all"})
	p.catchUpFor = time.Millisecond
	p.catchUp(newCollector())
	if n := p.lost[event.LossUnawaited]; n != 1 || !p.awaited {
		t.Errorf("counted are %d, still awaited: %v", n, p.awaited)
	}
}
