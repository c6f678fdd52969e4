package trigger

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"culprit/internal/event"
)

// query makes a DNS message with one question.
func query(id uint16, name string, qtype byte) []byte {
	b := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b = append(b, name...)
	return append(b, 0, 0, qtype, 0, 1)
}

const xBadzone = "\x01X\x07badzone\x04test"

// ip makes a packet with the given layers over IPv4 or IPv6.
func ip(t testing.TB, src, dst string, transport gopacket.SerializableLayer, payload []byte) []byte {
	t.Helper()
	s, d := net.ParseIP(src), net.ParseIP(dst)
	protocol := layers.IPProtocolUDP
	if _, tcp := transport.(*layers.TCP); tcp {
		protocol = layers.IPProtocolTCP
	}
	var network gopacket.SerializableLayer
	if s.To4() != nil {
		network = &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: s, DstIP: d}
	} else {
		network = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: s, DstIP: d}
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, network, transport, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func udp(src, dst uint16) *layers.UDP {
	return &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
}

func tcp(src, dst uint16) *layers.TCP {
	return &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), ACK: true, PSH: true}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	end := func(ip string, port uint16) event.Endpoint {
		return event.Endpoint{IP: netip.MustParseAddr(ip), Port: port}
	}
	q := query(4660, xBadzone, 1)
	fragment := ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), q)
	fragment[6], fragment[7] = 0, 1 // not the first one
	long := ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), append(q, make([]byte, 100)...))
	icmp := ip(t, "192.0.2.1", "192.0.2.2", udp(1, 2), q)
	icmp[9] = 1
	for _, tt := range []struct {
		name string
		in   []byte
		want packet
	}{
		{
			"udp over ipv4", ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), q),
			packet{event.Network{Transport: "udp", Type: "ipv4", Bytes: 28 + len(q)}, end("192.0.2.1", 4000), end("192.0.2.2", 53), q, false},
		},
		{
			"udp over ipv6", ip(t, "2001:db8::1", "2001:db8::2", udp(4000, 53), q),
			packet{event.Network{Transport: "udp", Type: "ipv6", Bytes: 48 + len(q)}, end("2001:db8::1", 4000), end("2001:db8::2", 53), q, false},
		},
		{
			"tcp over ipv4", ip(t, "192.0.2.1", "192.0.2.2", tcp(4000, 53), q),
			packet{event.Network{Transport: "tcp", Type: "ipv4", Bytes: 40 + len(q)}, end("192.0.2.1", 4000), end("192.0.2.2", 53), q, false},
		},
		{
			"cut behind the question", long[:28+len(q)],
			packet{event.Network{Transport: "udp", Type: "ipv4", Bytes: len(long)}, end("192.0.2.1", 4000), end("192.0.2.2", 53), q, true},
		},
		{
			"cut in the udp header", long[:24],
			packet{event.Network{Transport: "udp", Type: "ipv4", Bytes: len(long)}, end("192.0.2.1", 0), end("192.0.2.2", 0), nil, true},
		},
		{
			"a later fragment", fragment,
			packet{event.Network{Transport: "udp", Type: "ipv4", Bytes: len(fragment)}, end("192.0.2.1", 0), end("192.0.2.2", 0), nil, false},
		},
		{
			"another protocol", icmp,
			packet{event.Network{Transport: "1", Type: "ipv4", Bytes: len(icmp)}, end("192.0.2.1", 0), end("192.0.2.2", 0), nil, false},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newDecoder().decode(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(packet{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		})
	}
	for _, bad := range [][]byte{nil, {0x45}, {0x60, 0, 0}, {0x75, 1, 2, 3}} {
		if p, err := newDecoder().decode(bad); err == nil {
			t.Errorf("%x became %+v", bad, p)
		}
	}
}

// A decoder keeps nothing from one packet to the next.
func TestDecodeForgets(t *testing.T) {
	t.Parallel()
	d := newDecoder()
	if _, err := d.decode(ip(t, "192.0.2.1", "192.0.2.2", udp(4000, 53), query(1, xBadzone, 1))); err != nil {
		t.Fatal(err)
	}
	short := ip(t, "192.0.2.3", "192.0.2.4", udp(1, 2), nil)[:22]
	p, err := d.decode(short)
	if err != nil {
		t.Fatal(err)
	}
	if p.source.Port != 0 || p.payload != nil || p.source.IP.String() != "192.0.2.3" {
		t.Errorf("got %+v", p)
	}
}

func FuzzDecode(f *testing.F) {
	add := func(transport gopacket.SerializableLayer, payload []byte) []byte {
		for _, network := range []string{"192.0.2.", "2001:db8::"} {
			f.Add(ip(f, network+"1", network+"2", transport, payload))
		}
		return ip(f, "192.0.2.1", "192.0.2.2", transport, payload)
	}
	add(tcp(4000, 53), append([]byte{0, 32}, query(1, xBadzone, 28)...))
	add(tcp(4000, 53), query(1, xBadzone, 1)) // the length was sent before it
	for _, q := range hostileQuestions() {
		add(udp(4000, 53), q)
	}
	whole := add(udp(4000, 53), query(1, xBadzone, 1))
	f.Add(whole[:40]) // cut in the question
	f.Add(whole[:24]) // in the transport header
	f.Add(whole[:12]) // in the IP header
	f.Add([]byte{})
	whole[9] = 1 // neither UDP nor TCP
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := newDecoder().decode(b)
		if err == nil && (!p.source.IP.IsValid() || !p.destination.IP.IsValid()) {
			t.Errorf("addresses %v, %v without an error", p.source, p.destination)
		}
		for _, transport := range []string{"udp", "tcp"} {
			if n := len(questions(transport, p.payload)); n > maxQuestions {
				t.Errorf("%d questions", n)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := newDecoder()
	in := ip(b, "192.0.2.1", "192.0.2.2", udp(4000, 53), query(1, xBadzone, 1))
	b.ReportAllocs()
	for b.Loop() {
		p, _ := d.decode(in)
		if len(questions("udp", p.payload)) != 1 {
			b.Fatal("no question")
		}
	}
}
