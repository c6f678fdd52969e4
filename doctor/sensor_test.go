package doctor

import (
	"errors"
	"strings"
	"testing"

	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/sensor"
)

func TestJudgeWays(t *testing.T) {
	t.Parallel()
	no, perm := errors.New("there is no tracepoint"), errors.New("load its program: operation not permitted")
	all := func(nflog, rule, mark error) []tried {
		return []tried{{sensor.WayNFLog, nflog, nflog == nil}, {sensor.WayRule, rule, false}, {sensor.WayMark, mark, mark == nil}}
	}
	for _, tt := range []struct {
		sensor, freeze string
		all            []tried
		status         Status
		found, remedy  string
	}{
		{"auto", "auto", all(nil, nil, nil), OK, "(nflog), and stops that process until strace is attached; rule works, but stops nobody; mark works, too", ""},
		{"auto", "off", all(nil, nil, no), OK, "stops nobody (capture.freeze: off)", ""},
		{"auto", "auto", all(no, no, nil), OK, "(mark), and stops that process until strace is attached; nflog does not work: there is no tracepoint; rule does not work", ""},
		{"auto", "auto", all(no, nil, nil), Warn, "(rule), but it cannot stop that process in this way; nflog does not work", "Linux 6.16"},
		{"rule", "auto", all(nil, nil, nil), Warn, "(rule), but it cannot stop", "sensor: auto"},
		{"rule", "off", all(nil, nil, nil), OK, "(rule), and stops nobody", ""},
		{"auto", "auto", all(perm, perm, perm), Warn, "the kernel cannot say who sends a packet: nflog does not work: load", "SystemCallFilter="},
		{"rule", "auto", all(nil, no, nil), Fail, "sensor: rule: nflog works, too; rule does not work: there is no", "nflog, which works here"},
		{"mark", "auto", all(no, no, no), Fail, "sensor: mark: nflog does not work", "set sensor: auto or off"},
	} {
		c := config.Default()
		c.Sensor, c.Capture.Freeze = tt.sensor, tt.freeze
		got := judgeWays(&c, tt.all)
		if got.Status != tt.status || !strings.Contains(got.Found, tt.found) || !strings.Contains(got.Remedy, tt.remedy) || (got.Remedy == "") != (got.Status == OK) {
			t.Errorf("%s, freeze %s: %+v", tt.sensor, tt.freeze, got)
		}
	}
}

// With iptables-legacy the way "rule" does not work, and the doctor says why.
func TestWaysHere(t *testing.T) {
	t.Parallel()
	for _, backend := range testkit.Backends {
		n := testkit.NewNet(t)
		n.UseBackend(t, backend)
		checks := runIn(t, n, 0)
		c := checks["sensor"]
		if says := strings.Contains(c.Found, "rule does not work: iptables is of the legacy flavour"); c.Status != OK || says != (backend == "legacy") {
			t.Errorf("%s: %+v", backend, c)
		}
	}
}
