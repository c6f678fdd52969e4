package bench

import (
	"fmt"
	"net"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// BenchmarkPacket measures what one sendto of a UDP packet costs its sender, and
// what the rules of config.example.yaml add to packets that do not match: to port
// 53, where the kernel searches their bytes, and to another port. A rule that only
// counts packets to port 53 is there to compare with, and one rule with each of the
// kernel's search algorithms: culprit uses kmp.
//
// The firewalls are measured in turns, each in a namespace of its own, so that
// what else the machine does falls on all of them alike.
func BenchmarkPacket(b *testing.B) {
	for _, backend := range testkit.Backends {
		for _, size := range []int{60, 512, 1400} {
			b.Run(fmt.Sprintf("%s-%dB", backend, size), func(b *testing.B) { benchmarkPacket(b, backend, size) })
		}
	}
}

func benchmarkPacket(b *testing.B, backend string, size int) {
	const perTurn = 1000
	culprit := func(n *testkit.Net) { install(b, n, parse(b, badzone)) }
	search := func(algo string) func(*testkit.Net) {
		return func(n *testkit.Net) {
			n.Must(b, "iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-m", "string", "--algo", algo, "--from", "28", "--icase", "--string", "BADZONE")
		}
	}
	variants := []*struct {
		name    string
		port    int
		rules   func(*testkit.Net)
		conn    *net.UDPConn
		perSend []time.Duration
	}{
		{name: "none", port: 53, rules: func(*testkit.Net) {}},
		{name: "counter", port: 53, rules: func(n *testkit.Net) {
			n.Must(b, "iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "--dport", "53")
		}},
		{name: "bm", port: 53, rules: search("bm")},
		{name: "kmp", port: 53, rules: search("kmp")},
		{name: "port53", port: 53, rules: culprit},
		{name: "other-port", port: 54, rules: culprit},
	}
	for _, v := range variants {
		n := newNet(b)
		n.UseBackend(b, backend)
		v.rules(n)
		v.conn = dial(b, n, v.port)
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = "badzonf."[i%8] // begins as the pattern does, again and again
	}
	for b.Loop() {
		for _, v := range variants {
			start := time.Now()
			for range perTurn {
				if _, err := v.conn.Write(payload); err != nil {
					b.Fatal(err)
				}
			}
			v.perSend = append(v.perSend, time.Since(start)/perTurn)
		}
	}
	ns := map[string]float64{}
	for _, v := range variants {
		ns[v.name] = float64(quantile(v.perSend, 0.5))
	}
	b.ReportMetric(ns["none"], "ns/send")
	for _, name := range []string{"counter", "bm", "kmp", "port53", "other-port"} {
		b.ReportMetric(ns[name]-ns["none"], "ns-more/"+name)
	}
	b.ReportMetric(ns["port53"]/ns["none"], "ratio/port53")
	b.ReportMetric(ns["other-port"]/ns["none"], "ratio/other-port")
	noTimePerRun(b)
}

// dial opens a socket to 127.0.0.1 in the namespace.
func dial(b *testing.B, n *testkit.Net, port int) *net.UDPConn {
	b.Helper()
	var conn *net.UDPConn
	var err error
	n.Do(func() { conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}
