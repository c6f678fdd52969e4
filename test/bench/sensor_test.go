package bench

import (
	"net"
	"testing"
	"time"

	"culprit/internal/testkit"
	"culprit/sensor"
	"culprit/trigger"
)

// BenchmarkSensor measures what the armed sensor adds to packets that no rule matches: each is
// sent over the loopback device and received by a thread that waits for it, and the tracepoints of
// the ways "nflog" and "mark" fire for it. (In the way "rule" nothing runs for them.) Without
// a sensor it is measured twice: what these differ by is noise.
func BenchmarkSensor(b *testing.B) {
	const perTurn = 5000
	n := newNet(b)
	from, to := pair(b, n)
	l, err := (*trigger.Listener)(nil), error(nil)
	n.Do(func() { l, err = trigger.Listen(parse(b, badzone), nil, quiet) })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	cookie, err := l.Cookie()
	if err != nil {
		b.Fatal(err)
	}
	turn := func() time.Duration {
		buf, begin := make([]byte, 64), time.Now()
		for range perTurn {
			if _, err := from.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := to.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begin) / perTurn
	}
	armed := func(w sensor.Way) time.Duration {
		var s *sensor.Sensor
		var err error
		n.Do(func() {
			s, err = sensor.Open(sensor.Config{Ways: []sensor.Way{w}, Mark: 1 << 30, Rules: []sensor.Rule{{Name: "badzone"}}, AtOnce: 1})
			if err == nil {
				err = s.Start(cookie)
			}
		})
		if err != nil || s.Way() != w {
			b.Fatalf("%s: %v %v", w, err, s.Unusable())
		}
		defer s.Close()
		return turn()
	}
	took := map[string][]time.Duration{}
	turn()
	for b.Loop() {
		for range 20 {
			took["none"] = append(took["none"], turn())
			took["nflog"] = append(took["nflog"], armed(sensor.WayNFLog))
			took["none-again"] = append(took["none-again"], turn())
			took["mark"] = append(took["mark"], armed(sensor.WayMark))
		}
	}
	none := float64(quantile(took["none"], 0.5))
	b.ReportMetric(none, "ns/packet")
	for _, name := range []string{"nflog", "mark", "none-again"} {
		b.ReportMetric(float64(quantile(took[name], 0.5))-none, "ns-more/"+name)
	}
	noTimePerRun(b)
}

// pair opens two sockets in the namespace, the first connected to the second.
func pair(b *testing.B, n *testkit.Net) (from, to *net.UDPConn) {
	b.Helper()
	var err error
	n.Do(func() { to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { to.Close() })
	return dial(b, n, to.LocalAddr().(*net.UDPAddr).Port), to
}
