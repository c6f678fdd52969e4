package rules

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The rules count the real packets that match, wherever in the payload the pattern is, and
// never match headers.
func TestCounts(t *testing.T) {
	// 7f000001 7f000001 and ::1 ::1 are the addresses of every packet here. Port 4660 and a
	// length of 8+7 are the second half of a UDP header.
	const text = `
rules:
  - {name: zone, string: BADZONE, ports: [4660]}
  - {name: exact, hex: "BADZONE", ports: [4660], protocols: [udp]}
  - {name: domain, domain: evil.example, ports: [4660], protocols: [udp]}
  - {name: addr4, hex: "|7f0000017f000001|", ports: [4660], families: [ipv4]}
  - {name: addr6, hex: "|0000000000000001 00000000000000000000000000000001|", ports: [4660], families: [ipv6]}
  - {name: header, hex: "|1234000f|", ports: [4660], protocols: [udp]}
  - {name: elsewhere, string: BADZONE, ports: [4660], to: [192.0.2.0/24, "2001:db8::/32"]}
`
	type count struct{ Packets, Bytes uint64 }
	eachBackend(t, func(t *testing.T, e *env) {
		for _, table := range tables {
			f := e.open(t, parse(t, text+"firewall: {table: "+table+"}"), nil)
			e.installs(t, f)
			for _, host := range []string{"127.0.0.1", "::1"} {
				addr := net.JoinHostPort(host, "4660")
				e.ok(t, func() error { return sendUDP(addr, "BADZONE", "xbadZoneX", "BADZON", "\x04Evil\x07example\x00") })
				e.ok(t, func() error { return sendTCP(addr, "BADZONE") })
			}
			e.installs(t, f) // repairing keeps the counters
			for i, fs := range e.status(t, f).Families {
				got := map[string]count{}
				for _, r := range fs.Rules {
					if r.Packets > 0 {
						c := got[r.Name]
						got[r.Name] = count{c.Packets + r.Packets, c.Bytes + r.Bytes}
					}
				}
				ip := []uint64{20, 40}[i]
				want := map[string]count{
					// Two UDP packets and one TCP packet, whose header has timestamps.
					"zone":   {3, 2*(ip+8) + 7 + 9 + (ip + 32) + 7},
					"exact":  {1, ip + 8 + 7},
					"domain": {1, ip + 8 + 14},
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s in %s: %s", fs.Family, table, d)
				}
			}
			e.ok(t, f.Remove)
		}
	})
}

func sendUDP(addr string, payloads ...string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, p := range payloads {
		// Nobody listens, and some sends report that; the packet was sent before.
		if _, err := io.WriteString(c, p); err != nil {
			if _, err = io.WriteString(c, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendTCP sends one segment and waits until it has arrived.
func sendTCP(addr, payload string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		return err
	}
	defer peer.Close()
	if _, err := io.WriteString(c, payload); err != nil {
		return err
	}
	got := make([]byte, len(payload))
	if _, err := io.ReadFull(peer, got); err != nil {
		return err
	}
	if string(got) != payload {
		return fmt.Errorf("received %q", got)
	}
	return nil
}
