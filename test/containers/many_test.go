package containers

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"culprit/test/harness"
)

// Two hundred namespaces live for as long as one lookup takes, several at a time. Each lookup is a hit of the process that sent it,
// in the namespace that it was sent in.
func TestManyNamespaces(t *testing.T) {
	t.Parallel()
	const many, atOnce = 200, 4
	h := harness.NewHost(t, "")
	domain, config := zone("all")
	d := h.Hunt(strings.Replace(config, "concurrent: 64", "concurrent: 512", 1))
	uid := harness.NewUID()
	type sent struct {
		pid   int
		netns string
	}
	var mu sync.Mutex
	all := map[string]sent{}
	turns := make(chan int)
	var senders sync.WaitGroup
	for range atOnce {
		senders.Go(func() {
			for i := range turns {
				name := fmt.Sprintf("n%d.%s", i, domain)
				p := h.StartAs(uid, "unshare", "--user", "--map-root-user", "--net", "sh", "-c",
					"ip link set lo up && readlink /proc/self/ns/net && exec "+harness.Programs.OffenderC+" -n "+name)
				if p.Wait() != 0 {
					t.Errorf("%s: %s", name, p.Output)
				}
				mu.Lock()
				all[name] = sent{p.PID, strings.Trim(p.Output.String(), "net:[]\n")}
				mu.Unlock()
			}
		})
	}
	for i := range many {
		turns <- i
	}
	close(turns)
	senders.Wait()
	d.Hit(fmt.Sprintf("n%d.%s", many-1, domain))
	d.Stop()
	right := 0
	for _, hit := range d.Hits() {
		s := all[hit.DNS.Question.Name]
		switch {
		case hit.Process == nil:
			t.Errorf("nobody is named for %s: %+v", hit.DNS.Question.Name, hit.Culprit.Origin)
		case hit.Process.PID != s.pid || fmt.Sprint(hit.Culprit.Netns.Inode) != s.netns:
			t.Errorf("%s was sent by %d in %s: named is %d in %s", hit.DNS.Question.Name, s.pid, s.netns, hit.Process.PID, hit.Culprit.Netns)
		case hit.Culprit.Netns.Owner == nil || hit.Culprit.Netns.Owner.ID != fmt.Sprint(uid):
			t.Errorf("the namespace of %s belongs to %v, want %d", hit.DNS.Question.Name, hit.Culprit.Netns.Owner, uid)
		default:
			right++
		}
	}
	if right != many {
		t.Errorf("%d of %d are named", right, many)
	}
}
