package trigger

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"culprit/internal/event"
)

// packet is what the headers of a logged packet contain.
type packet struct {
	network     event.Network
	source      event.Endpoint
	destination event.Endpoint
	payload     []byte // after the UDP or TCP header; may be cut
	truncated   bool   // the packet was longer than the logged part
}

// decoder decodes packets. It reuses its layers from packet to packet, so it belongs to one
// goroutine.
//
// It uses gopacket for the headers only, whose DNS layer panics on hostile input.
type decoder struct {
	ip4  layers.IPv4
	ip6  layers.IPv6
	ext  layers.IPv6ExtensionSkipper
	udp  layers.UDP
	tcp  layers.TCP
	body gopacket.Payload

	parser4, parser6 *gopacket.DecodingLayerParser
	decoded          []gopacket.LayerType
}

func newDecoder() *decoder {
	d := new(decoder)
	d.parser4 = gopacket.NewDecodingLayerParser(layers.LayerTypeIPv4, &d.ip4, &d.udp, &d.tcp, &d.body)
	d.parser6 = gopacket.NewDecodingLayerParser(layers.LayerTypeIPv6, &d.ip6, &d.ext, &d.udp, &d.tcp, &d.body)
	d.parser4.IgnoreUnsupported = true
	d.parser6.IgnoreUnsupported = true
	return d
}

// decode reads a packet that starts with its IP header. If the transport header is missing, cut
// or of another protocol, the addresses have no ports. It fails only if the IP header cannot be
// read.
func (d *decoder) decode(b []byte) (packet, error) {
	if len(b) == 0 {
		return packet{}, errors.New("decode packet: empty")
	}
	parser := d.parser4
	switch b[0] >> 4 {
	case 4:
	case 6:
		parser = d.parser6
	default:
		return packet{}, fmt.Errorf("decode packet: IP version %d", b[0]>>4)
	}
	// The error may come from a later layer; the layers decoded before it are good.
	err := parser.DecodeLayers(b, &d.decoded)
	var p packet
	var src, dst netip.Addr
	var protocol layers.IPProtocol
	for _, layer := range d.decoded {
		switch layer {
		case layers.LayerTypeIPv4:
			src, _ = netip.AddrFromSlice(d.ip4.SrcIP)
			dst, _ = netip.AddrFromSlice(d.ip4.DstIP)
			p.network.Type, p.network.Bytes = "ipv4", int(d.ip4.Length)
			protocol = d.ip4.Protocol
		case layers.LayerTypeIPv6:
			src, _ = netip.AddrFromSlice(d.ip6.SrcIP)
			dst, _ = netip.AddrFromSlice(d.ip6.DstIP)
			p.network.Type, p.network.Bytes = "ipv6", int(d.ip6.Length)+40
			protocol = d.ip6.NextHeader
		case layers.LayerTypeUDP:
			protocol = layers.IPProtocolUDP
			p.source.Port, p.destination.Port = uint16(d.udp.SrcPort), uint16(d.udp.DstPort)
			p.payload = d.udp.Payload
		case layers.LayerTypeTCP:
			protocol = layers.IPProtocolTCP
			p.source.Port, p.destination.Port = uint16(d.tcp.SrcPort), uint16(d.tcp.DstPort)
			p.payload = d.tcp.Payload
		}
	}
	if !src.IsValid() || !dst.IsValid() {
		return packet{}, fmt.Errorf("decode packet: %w", err)
	}
	p.source.IP, p.destination.IP = src, dst
	switch protocol {
	case layers.IPProtocolUDP:
		p.network.Transport = "udp"
	case layers.IPProtocolTCP:
		p.network.Transport = "tcp"
	default:
		p.network.Transport = strconv.Itoa(int(protocol))
	}
	p.truncated = p.network.Bytes > len(b)
	return p, nil
}
