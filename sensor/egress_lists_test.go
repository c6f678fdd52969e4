package sensor

import (
	"encoding/binary"
	"testing"

	"culprit/internal/event"
	"culprit/lists/format"
	"culprit/lists/nfilter"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

// listed is a want for what a list means.
func listed(rule string, ports ...int) Want {
	return Want{List: rule, Protocols: []string{"udp"}, Families: []string{"ipv4"}, Ports: ports}
}

func filterOf(t testing.TB, rules map[string]*set.Set) *nfilter.Filter {
	t.Helper()
	f, err := nfilter.Load(rules, nil)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(f.Close)
	return f
}

// question asks for a name of two labels, in a whole packet.
func question(label, zone string, port int) []byte {
	q := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	for _, l := range []string{label, zone} {
		q += string(rune(len(l))) + l
	}
	packet := ipv4("192.0.2.1", 0, udp(port, q+"\x00\x00\x01\x00\x01"))
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	binary.BigEndian.PutUint16(packet[24:], uint16(len(packet)-20))
	return packet
}

// Of packets to the ports of rules with lists only those are reported that a list may mean, or that it takes user space to decide. The
// lists and the other rules do not get into each other's way.
func TestEgressLists(t *testing.T) {
	t.Parallel()
	entry := func(name string, except bool) format.Entry {
		return format.Entry{Name: name, Kind: format.Whole, Except: except}
	}
	filter := filterOf(t, map[string]*set.Set{
		"feed": settest.New(t, entry("evil.test", false), entry("good.evil.test", true)), "more": settest.New(t, entry("bad.test", false)),
	})
	f := openEgress(t, 512)
	all := []Want{badzone, listed("feed", 53), listed("more", 53, 5353), {Protocols: []string{"udp"}, Families: []string{"ipv4"}, Ports: []int{99}}}
	stop := event.UnstoppedUncertain // it would be stopped, but is sent by no system call that sends
	for _, lists := range []Lists{filter, nil} {
		if err := f.egress.replace(all, lists); err != nil {
			t.Fatalf("%+v", err)
		}
		for _, tt := range []struct {
			what   string
			packet []byte
			found  bool // with a filter
			why    event.UnstoppedCode
		}{
			{"listed", question("evil", "test", 53), true, stop},
			{"of the other list", question("bad", "test", 5353), true, stop},
			{"not of that list", question("evil", "test", 5353), false, ""},
			{"not listed", question("fine", "test", 53), false, ""},
			{"another port", question("evil", "test", 54), false, ""},
			{"a pattern", question("xbadzone", "test", 53), true, stop},
			{"any", question("fine", "test", 99), true, ""},
			{"unusual", ipv4("192.0.2.1", 0, udp(53, "no question at all")), true, event.UnstoppedUndecided},
		} {
			before := f.egress.sensor.Counts().Unstopped
			_, is := f.send(t, tt.packet)
			want, why := tt.found, tt.why
			if lists == nil && tt.what != "another port" {
				want = true
				if tt.what != "a pattern" {
					why = ""
				}
			}
			if is != want {
				t.Errorf("%s, with a filter: %v: reported %v", tt.what, lists != nil, is)
			}
			for code, n := range f.egress.sensor.Counts().Unstopped {
				if n != before[code] != (code == why) {
					t.Errorf("%s, with a filter: %v: %d are counted as %s", tt.what, lists != nil, n-before[code], code)
				}
			}
		}
	}
}
