package trigger

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/florianl/go-nflog/v2"
	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/lists/format"
	"culprit/lists/nfilter"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

const listRule = "iptables -A OUTPUT -p udp --dport 53 -j NFLOG --nflog-group 5353 --nflog-prefix list --nflog-threshold 1 --nflog-size 2048"

func mustFilter(t testing.TB, rules map[string]*set.Set) *nfilter.Filter {
	t.Helper()
	f, err := nfilter.Load(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// send sends datagrams to port 53 of the namespace.
func send(t testing.TB, n *testkit.Net, payloads ...[]byte) {
	t.Helper()
	var err error
	n.Do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		t.Cleanup(func() { unix.Close(fd) }) // not before: equal questions from the same port would be one hit
		for _, p := range payloads {
			if err = unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return
			}
		}
	})
	if err != nil {
		t.Error(err) // it may be called by another goroutine
	}
}

// Only what may be listed leaves the kernel, nothing counts as lost, and the socket can still ask the kernel: a filter is replaced, taken
// off, and the group released.
func TestListFilter(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	l, _ := mustListen(t, n, twoRules)
	f := mustFilter(t, map[string]*set.Set{"list": evil(t)})
	if err := l.Filter(f.Program()); err != nil {
		t.Fatal(err)
	}
	n.Must(t, "sh", "-c", listRule)
	out := toChannel{make(chan *event.Hit, 100), newCollector()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, listRules(t, evil(t)), out) }()
	ask := func(id uint16) {
		t.Helper()
		send(t, n, query(id, other, 1), query(id, "\x04good"+"\x04evil\x07example", 1), query(id, listedName, 1))
		if h := next(t, out); h.DNS.ID != fmt.Sprint(id) || h.DNS.Question.Name != "www.evil.example" {
			t.Errorf("hit %+v", h.DNS)
		}
	}
	for id := range uint16(20) {
		ask(id)
	}
	if got, want := f.Counts()["list"], (nfilter.Counts{Passed: 20, Dropped: 20, Undecided: 20}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	second := mustFilter(t, map[string]*set.Set{"list": evil(t)})
	for _, p := range []*nfilter.Filter{second, f} {
		if err := l.Filter(p.Program()); err != nil {
			t.Fatal(err)
		}
		ask(50)
	}
	for range 2 { // also if there is none
		if err := l.Filter(nil); err != nil {
			t.Fatal(err)
		}
	}
	ask(60)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if out.lost[event.LossKernel] != 0 || out.lost[event.LossOverruns] != 0 {
		t.Errorf("lost %v", out.lost)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// What finds no room is counted, one by one, whatever a filter drops.
func TestLost(t *testing.T) {
	t.Parallel()
	const sent = 500
	n := testkit.NewNet(t)
	n.Must(t, "sh", "-c", listRule)
	l := new(Listener)
	var err error
	n.Do(func() {
		l.nf, err = nflog.Open(&nflog.Config{Group: 5353, Copymode: nflog.CopyPacket, QThresh: 1, Bufsize: 2048, Logger: noLogger{}})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.nf.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := l.Filter(mustFilter(t, map[string]*set.Set{"list": evil(t)}).Program()); err != nil {
		t.Fatal(err)
	}
	_ = l.nf.Con.SetReadBuffer(1) // the least there is
	got, goOn := make(chan bool, sent), make(chan bool)
	err = l.nf.RegisterWithErrorFunc(ctx, func(nflog.Attribute) int { got <- true; <-goOn; return 0 }, func(error) int { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint16(sent) {
		send(t, n, query(id, other, 1), query(id, listedName, 1))
	}
	lost := l.lost()
	if again := l.lost(); again != 0 {
		t.Errorf("%d are counted again", again)
	}
	close(goOn)
	for range sent - int(lost) {
		select {
		case <-got:
		case <-time.After(testkit.Patience):
			t.Fatalf("%d of %d are counted as lost, and others did not come", lost, sent)
		}
	}
	if lost == 0 || len(got) > 0 {
		t.Errorf("%d of %d are counted as lost, %d more came", lost, sent, len(got))
	}
}

// The filter never drops what would be a hit, whatever the packet is, and what it says is listed is one.
func TestFilterAgrees(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	for round := range uint64(4) {
		r := randomPackets{rand.New(rand.NewPCG(13, round))}
		s := settest.New(t, r.entries()...)
		f := mustFilter(t, map[string]*set.Set{"list": s})
		rule, d := listRules(t, s)[0], newDecoder()
		var before nfilter.Counts
		for range 10000 {
			data := r.packet(t)
			pkt, _ := d.decode(data)
			asked := questions(pkt.network.Transport, pkt.payload)
			hit := rule.matching(append(asked, rule.later(pkt.network.Transport, pkt.payload)...)) >= 0
			passes := runFilter(t, f, data)
			now := f.Counts()["list"]
			switch {
			case hit && !passes:
				t.Fatalf("a hit was dropped: %x", data)
			case !hit && now.Passed > before.Passed:
				t.Fatalf("what is not listed was said to be: %x", data)
			case now == before:
				t.Fatalf("not counted: %x", data)
			}
			before = now
		}
		if n := before; n.Passed < 100 || n.Dropped < 100 || n.Undecided < 100 {
			t.Errorf("not all was tried: %+v", n)
		}
	}
}

// runFilter gives the NFLOG message of a packet to a filter, and returns whether it passes.
func runFilter(t testing.TB, f *nfilter.Filter, packet []byte) bool {
	t.Helper()
	b := make([]byte, 14+16+4) // the kernel takes the first 14 off
	binary.NativeEndian.PutUint16(b[14+4:], 4<<8)
	attribute := func(kind uint16, data []byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
		b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
		b = append(b, make([]byte, -len(data)&3)...)
	}
	attribute(1, make([]byte, 4))
	attribute(10, []byte("list\x00"))
	attribute(9, packet)
	binary.NativeEndian.PutUint32(b[14:], uint32(len(b)-14))
	got, err := f.Program().Run(&ebpf.RunOptions{Data: b})
	if err != nil {
		t.Fatal(err)
	}
	return got != 0
}

// randomPackets makes lists, and packets about names that are near to them.
type randomPackets struct{ *rand.Rand }

func (r randomPackets) labels(n int) (labels []string) {
	all := []string{"a", "b", "evil", "x-y", strings.Repeat("l", 63), "_dmarc", "example"}
	for range n {
		labels = append(labels, all[r.IntN(len(all))])
	}
	return labels
}

func (r randomPackets) entries() (all []format.Entry) {
	for range 60 {
		name := strings.Join(r.labels(2+r.IntN(2)), ".")
		all = append(all, format.Entry{Name: name, Kind: format.Kind(r.IntN(3)), Except: r.IntN(6) == 0})
	}
	return append(all, format.Entry{Name: strings.Repeat("a.", 126) + "b", Kind: format.Whole})
}

func (r randomPackets) name() (b []byte) {
	n := 1 + r.IntN(5)
	if r.IntN(20) == 0 {
		n = 120 + r.IntN(10)
	}
	for _, label := range r.labels(n) {
		if n > 100 {
			label = string('a' + byte(r.IntN(8)/7))
		}
		b = append(append(b, byte(len(label))), label...)
	}
	for i := range b {
		if b[i] >= 'a' && b[i] <= 'z' && r.IntN(4) == 0 {
			b[i] -= 'a' - 'A'
		}
	}
	return b
}

func (r randomPackets) message() []byte {
	m := query(uint16(r.Uint32()), string(r.name()), []byte{1, 28, 65, 255, 0}[r.IntN(5)])
	if r.IntN(2) == 0 {
		m[11] = 1
		m = append(m, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0)
		options := make([]byte, max(0, r.IntN(50)-30))
		for i := range options {
			options[i] = byte(r.IntN(3))
		}
		m = append(append(m, byte(len(options))), options...)
	}
	return m
}

func (r randomPackets) packet(t testing.TB) []byte {
	payload := r.message()
	isTCP := r.IntN(3) == 0
	if isTCP {
		payload = segment(payload)
	}
	switch r.IntN(8) {
	case 0: // another behind it
		payload = append(payload, r.message()...)
	case 1: // one in it
		at := r.IntN(len(payload))
		payload = append(payload[:at:at], r.message()...)
	case 2: // some byte is another
		payload[r.IntN(len(payload))] = byte(r.Uint32())
	case 3: // some small numbers are others
		for range 1 + r.IntN(4) {
			payload[r.IntN(len(payload))] = byte(r.IntN(2))
		}
	case 4: // cut
		payload = payload[:r.IntN(len(payload))]
	}
	var data []byte
	switch {
	case isTCP:
		data = ip(t, "192.0.2.1", "192.0.2.2", tcp(4000, 53), payload)
	case r.IntN(2) == 0:
		data = ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), payload)
	default:
		data = ip(t, "2001:db8::1", "2001:db8::2", udp(4000, 53), payload)
	}
	switch r.IntN(20) {
	case 0:
		data[r.IntN(min(60, len(data)))] = byte(r.Uint32())
	case 1:
		data = data[:20+r.IntN(len(data)-20)]
	}
	return data
}

// While one filter takes the place of another, again and again, all that is listed passes.
func TestFilterReplaced(t *testing.T) {
	t.Parallel()
	const sent = 5000
	n := testkit.NewNet(t)
	n.Must(t, "sh", "-c", listRule)
	l, _ := mustListen(t, n, twoRules+"\nnflog: {queue: 10000}")
	defer l.Close()
	entries := []format.Entry{{Name: "evil.example", Kind: format.Whole}}
	for i := range 50000 {
		entries = append(entries, format.Entry{Name: fmt.Sprintf("n%d.feed.example", i), Kind: format.Whole})
	}
	s := settest.New(t, entries...)
	replace := func() {
		t.Helper()
		f, err := nfilter.Load(map[string]*set.Set{"list": s}, nil)
		if err == nil {
			defer f.Close() // the socket keeps the program
			err = l.Filter(f.Program())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	replace()
	done := make(chan bool)
	go func() {
		defer close(done)
		for id := range uint16(sent) {
			send(t, n, query(id, listedName, 1), query(id, other, 1))
		}
	}()
	times := 0
	for flows := true; flows; times++ {
		replace()
		select {
		case <-done:
			flows = false
		default:
		}
	}
	for deadline := time.Now().Add(10 * time.Second); l.Waiting() < sent; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d passed, %d are counted as lost", l.Waiting(), sent, l.lost())
		}
	}
	if l.Waiting() != sent || times < 2 {
		t.Errorf("%d passed, want %d; %d filters", l.Waiting(), sent, times)
	}
}
