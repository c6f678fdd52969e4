package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// Three hosts, each behind a link of its own, send what they find by TLS. What each has is shown as its own, by the commands and in
// the browser; and when the link of one is cut in the middle, nothing is lost or doubled.
func TestThreeHosts(t *testing.T) {
	t.Parallel()
	s := newNetwork(t, "web1", "web2", "web3")
	const short = "capture: {levels: [{hits: 1, processes: 50, window: 5s, strings: 512}]}\n"
	hosts := map[string]*harness.Daemon{}
	for i, name := range []string{"web1", "web2", "web3"} {
		h := harness.NewHost(t, "")
		s.link(h, i)
		config, evidence := h.Configure(short + harness.Badzone + s.blockBy(name, i))
		hosts[name] = h.HuntWith(config, evidence)
		hosts[name].AwaitLog("connected to the fleet")
	}
	uid := harness.NewUID()
	want := map[string]int{} // "HOST NAME"
	ask := func(host, name string) {
		t.Helper()
		want[host+" "+name]++
		hosts[host].Host.Sender(uid).Ask(name)
		hosts[host].Hit(name)
	}
	mirror := filepath.Join(s.Dir, "mirror")
	arrive := func() (hits map[string]event.Hit) {
		t.Helper()
		harness.Eventually(t, "the fleet sees all hits once", func() error {
			got := map[string]int{}
			hits = map[string]event.Hit{}
			for line := range strings.Lines(s.look(mirror, "hits", "--json").Must(t)) {
				var h event.Hit
				if err := json.Unmarshal([]byte(line), &h); err != nil || h.Host == nil || h.DNS == nil {
					return fmt.Errorf("%w: not a hit of a host: %s", err, line)
				}
				key := h.Host.Name + " " + h.DNS.Question.Name
				got[key]++
				hits[key] = h
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("it sees %v, want %v", got, want)
			}
			return nil
		})
		return hits
	}
	for host := range hosts {
		ask(host, host+".badzone.test")
		ask(host, "all.badzone.test")
	}
	arrive()

	// The link of one is cut: it goes on, and so do the others.
	link := hosts["web2"].Host
	link.Must(t, "ip", "link", "set", "up0", "down")
	for i := range 5 {
		ask("web2", fmt.Sprintf("cut%d.badzone.test", i))
	}
	ask("web1", "meanwhile.badzone.test")
	ask("web3", "meanwhile.badzone.test")
	delayed := want
	want = map[string]int{}
	for key, n := range delayed {
		if !strings.Contains(key, " cut") {
			want[key] = n
		}
	}
	arrive()
	want = delayed
	link.Must(t, "ip", "link", "set", "up0", "up")
	ask("web2", "back.badzone.test")
	hits := arrive()
	var order []string
	for line := range strings.Lines(s.look(mirror, "hits", "--json", "--host", "web2").Must(t)) {
		var h event.Hit
		if err := json.Unmarshal([]byte(line), &h); err != nil {
			t.Fatal(err)
		}
		order = append(order, h.DNS.Question.Name)
	}
	if got := strings.Join(order[len(order)-6:], " "); got != "cut0.badzone.test cut1.badzone.test cut2.badzone.test cut3.badzone.test cut4.badzone.test back.badzone.test" {
		t.Errorf("the order is %s", got)
	}

	// Each command says whose each thing is.
	page := s.browse(mirror)
	for name, d := range hosts {
		own := hits[name+" "+name+".badzone.test"]
		if out := s.look(mirror, "hits", "--host", name).Must(t); strings.Count(out, name+".badzone.test") != 1 || strings.Count(out, "all.badzone.test") != 1 {
			t.Errorf("the hits of %s are %s", name, out)
		}
		if out := s.look(mirror, "show", own.Event.ID).Must(t); !strings.Contains(out, name+".badzone.test") || !strings.Contains(out, "host         "+name) {
			t.Errorf("the hit of %s is %s", name, out)
		}
		mirrored := s.look(mirror, "captures", "--json", "--host", name).Must(t)
		if strings.Count(mirrored, "\n") == 0 {
			t.Errorf("%s has no captures in the mirror", name)
		}
		var captures []string
		for _, c := range d.Captures() {
			captures = append(captures, c.Event.ID)
		}
		for line := range strings.Lines(mirrored) {
			var c event.Capture
			if err := json.Unmarshal([]byte(line), &c); err != nil || !strings.Contains(strings.Join(captures, " "), c.Event.ID) {
				t.Errorf("%v: not a capture of %s: %s", err, name, line)
			}
		}
		page.shows("/?host="+name, own.Event.ID, "3 of 3 hosts alive")
		page.shows("/hits/"+own.Event.ID, "no other host")
		page.shows("/hosts", name)
		other := hits[name+" all.badzone.test"]
		for also := range hosts {
			if also != name {
				page.shows("/hits/"+other.Event.ID, also+" (1 hit)")
			}
		}
		if r := s.look(mirror, "fetch", own.Event.ID); r.Code != 1 || !strings.Contains(r.Errors, name+" never gives bundles") {
			t.Errorf("fetch of %s: %+v", name, r)
		}
	}
	if out := s.look(mirror, "hits", "--name", "all.badzone.test").Must(t); strings.Count(out, "all.badzone.test") != 3 {
		t.Errorf("who asked for this name: %s", out)
	}
	harness.Eventually(t, "the hosts say how they are", func() error {
		out := s.look(mirror, "hosts").Must(t)
		if strings.Count(out, "alive") != 3 {
			return errors.New(out)
		}
		return nil
	})
	page.end()
	for _, d := range hosts {
		d.Stop()
	}
}
