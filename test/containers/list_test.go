package containers

import (
	"fmt"
	"strings"
	"testing"

	"culprit/test/harness"
)

// Of other namespaces, too, only those who ask for a name that is listed are named, and stand still until they are traced. What is
// listed may change at any time: a name that is on the old list and on the new one is found all the time.
func TestListElsewhere(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	list := h.Write("feed.txt", domain+"\n")
	config = strings.Replace(config, "domain: "+domain, "list: "+list, 1)
	d := h.Hunt(config)
	asks := func(uid uint32, name string, flags ...string) *harness.Process {
		t.Helper()
		p := other.StartAs(uid, harness.Programs.OffenderC, append([]string{"-n", name}, flags...)...)
		if p.Wait() != 0 {
			t.Fatal(p.Output)
		}
		return p
	}
	for i, flags := range [][]string{nil, {"-t"}, {"-s", "::1"}} {
		uid, name := harness.NewUID(), fmt.Sprintf("x%d.%s", i, domain)
		asks(harness.NewUID(), "harmless.test", flags...)
		p := asks(uid, name, flags...)
		if hit := caught(t, d, name, p.PID, uid); hit.Culprit.Netns == nil || hit.Culprit.Listed == nil {
			t.Errorf("the hit is in %v, listed in %+v", hit.Culprit.Netns, hit.Culprit.Listed)
		}
	}
	const changes, lookups = 5, 4
	uid := harness.NewUID()
	for i := range changes {
		h.Write("feed.txt", fmt.Sprintf("%s\nn%d.other%s\n", domain, i, domain))
		for j := range lookups {
			asks(uid, fmt.Sprintf("y%d-%d.%s", i, j, domain))
		}
		name := fmt.Sprintf("n%d.other%s", i, domain)
		harness.Eventually(t, "the new list is in force", func() error {
			asks(uid, name)
			for _, hit := range d.Hits() {
				if hit.DNS.Question.Name == name {
					return nil
				}
			}
			return fmt.Errorf("%s is no hit", name)
		})
	}
	d.Stop()
	found := map[string]bool{}
	for _, hit := range d.Hits() {
		found[hit.DNS.Question.Name] = true
	}
	for i := range changes {
		for j := range lookups {
			if name := fmt.Sprintf("y%d-%d.%s", i, j, domain); !found[name] {
				t.Errorf("%s is no hit", name)
			}
		}
	}
	if found["harmless.test"] {
		t.Error("a name that is not listed is a hit")
	}
}
