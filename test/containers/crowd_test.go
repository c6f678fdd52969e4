package containers

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"culprit/test/harness"
)

// crowd is containers of podman that start, look one name up, each its own, and are gone.
type crowd struct {
	count, atOnce int
	pause         string // seconds from a container's start to its lookup
}

// start starts them under one UID, each in a network of its own, and waits for the end of the last. It returns how long that took.
func (c crowd) start(p podman, domain string, uid uint32) time.Duration {
	p.t.Helper()
	turns := make(chan string)
	var starters sync.WaitGroup
	began := time.Now()
	for range c.atOnce {
		starters.Go(func() {
			for name := range turns {
				script := "sleep " + c.pause + "; exec nslookup " + name + "." + domain + " 127.0.0.1"
				p.run(script, "--name", name, "--rm", "--network", "none", "--user", fmt.Sprint(uid)).Wait()
			}
		})
	}
	for i := range c.count {
		turns <- fmt.Sprint("job-", i)
	}
	close(turns)
	starters.Wait()
	return time.Since(began)
}

// told is what the evidence says of a crowd.
type told struct {
	right    int      // containers whose lookups have the name of their container
	wrong    []string // lookups that have the name of another container
	nameless []string // containers of whose lookup it is not known that it was theirs
	proven   int
	sent     []time.Duration // from when the container's first process was made to its packet
	stood    []time.Duration // from when the packet's sender stood still until it was traced
}

// tells waits until there is a hit of each, stops the daemon, and compares.
func (c crowd) tells(t testing.TB, d *harness.Daemon, domain string) (all told) {
	t.Helper()
	harness.Eventually(t, "each container has a hit", func() error {
		names := map[string]bool{}
		for _, hit := range d.Hits() {
			names[hit.DNS.Question.Name] = true
		}
		if len(names) < c.count {
			return fmt.Errorf("there are %d", len(names))
		}
		return nil
	})
	d.Stop()
	right, wrong, proven, nameless := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, hit := range d.Hits() {
		name := strings.TrimSuffix(hit.DNS.Question.Name, "."+domain)
		switch {
		case hit.Container == nil || hit.Process == nil:
			nameless[name] = fmt.Sprintf("%s: by %v in %+v, %+v", name, hit.Process, hit.Container, hit.Culprit.Origin)
		case hit.Container.Name != name || hit.Container.Claimed:
			wrong[name] = true
			all.wrong = append(all.wrong, fmt.Sprintf("%s, as one of %+v", name, hit.Container))
		case !right[name]:
			right[name] = true
			all.sent = append(all.sent, hit.Timestamp.Sub(hit.Process.Start))
		}
		if hit.Culprit.Proof != nil {
			proven[name] = true
		}
	}
	for i := range c.count {
		if name := fmt.Sprint("job-", i); wrong[name] {
			continue
		} else if right[name] {
			all.right++
		} else {
			all.nameless = append(all.nameless, nameless[name])
		}
	}
	for _, tr := range d.Traces() {
		if tr.Culprit.FromPacket {
			all.stood = append(all.stood, time.Duration(tr.Culprit.AttachMS*float64(time.Millisecond)))
		}
	}
	all.proven = len(proven)
	return all
}

// short is a configuration whose captures end with the container.
func short(domain string) string {
	return fmt.Sprintf(`rules: [{name: zone, domain: %s}]
namespaces: all
capture: {levels: [{hits: 1, processes: 10, window: 10s, strings: 512}], linger: 0s, concurrent: 512, gate_deadline: 5s}
`, domain)
}

// Containers that live for one lookup start several at a time under the same UID: each lookup has the name of its container, and none
// that of another.
func TestCrowdOfContainers(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	p := newPodman(t, h, map[uint32]string{uid: "www-data"})
	domain, _ := zone("all")
	d := h.Hunt(short(domain))
	c := crowd{count: 20, atOnce: 4, pause: "0.05"}
	c.start(p, domain, uid)
	if all := c.tells(t, d, domain); all.right != c.count || len(all.wrong) > 0 || len(all.nameless) > 0 {
		t.Errorf("of %d containers %d are named rightly; wrongly: %q; not at all: %q", c.count, all.right, all.wrong, all.nameless)
	}
}

// BenchmarkContainers starts 200 containers of podman, which each send one lookup 50 ms after their start, or at once, and counts
// whose lookup is told as his. "alone" is podman without culprit.
func BenchmarkContainers(b *testing.B) {
	for _, v := range []struct {
		name, pause string
		hunt        bool
	}{{"alone", "0.05", false}, {"after-50ms", "0.05", true}, {"at-once", "0", true}} {
		b.Run(v.name, func(b *testing.B) {
			h := harness.NewHost(b, "")
			uid := harness.NewUID()
			p := newPodman(b, h, map[uint32]string{uid: "www-data"})
			domain, _ := zone("all")
			c := crowd{count: 200, atOnce: 6, pause: v.pause}
			if !v.hunt {
				took := c.start(p, domain, uid)
				b.ReportMetric(float64(c.count)/took.Minutes(), "containers/min")
				b.ReportMetric(0, "ns/op")
				return
			}
			d := h.Hunt(short(domain))
			took := c.start(p, domain, uid)
			all := c.tells(b, d, domain)
			for _, w := range all.wrong {
				b.Errorf("in the wrong container: %s", w)
			}
			for _, n := range all.nameless {
				b.Logf("not told: %s", n)
			}
			b.ReportMetric(float64(c.count)/took.Minutes(), "containers/min")
			b.ReportMetric(float64(all.right), "named-rightly")
			b.ReportMetric(float64(len(all.wrong)), "wrongly")
			b.ReportMetric(float64(len(all.nameless)), "not")
			b.ReportMetric(float64(all.proven), "proven")
			quantiles(b, "start-to-packet", all.sent)
			quantiles(b, "packet-to-trace", all.stood)
			b.ReportMetric(0, "ns/op")
		})
	}
}

// quantiles reports p50 and p99, if there are samples.
func quantiles(b *testing.B, what string, samples []time.Duration) {
	slices.Sort(samples)
	for _, p := range []int{50, 99} {
		if n := len(samples); n > 0 {
			b.ReportMetric(float64(samples[(n-1)*p/100].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", what, p))
		}
	}
}
