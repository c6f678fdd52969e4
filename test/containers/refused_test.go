package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// forker forks children that execute nothing, as many as it is told to, and says how many of them it saw stopped, and the last one.
const forker = `
import os, sys, time
print("waits", flush=True)
for line in sys.stdin:
    stops = 0
    for _ in range(int(line)):
        pid = os.fork()
        if pid == 0: os._exit(0)
        while True: # who waits for stopped children would notice a stop
            done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if done and not os.WIFSTOPPED(status): break
            if done: stops += 1
            time.sleep(0.0005)
    print("forked", stops, pid, flush=True)
`

// Children of a program are not held for a minute, once one of them was let go, as its user is captured in another container only. When
// the program comes into that container they are.
func TestRefusedElsewhere(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(badzone + harness.ByBPF(harness.Gated))
	web, mail := newGroup(t), newGroup(t)
	uid := harness.NewUID()
	if p := web.start(h, uid, harness.Programs.OffenderC, "-n", "x.badzone.test"); p.Wait() != 0 {
		t.Fatal(p.Output)
	}
	c := d.Capture(uid, "has a trace", func(c event.Capture) bool { return c.Culprit.Traces > 0 })
	if c.Container == nil || c.Container.ID != web.id {
		t.Fatalf("the capture is in %+v", c.Container)
	}
	d.InPlace(1)
	p := mail.start(h, uid, "python3", "-I", "-S", "-c", forker)
	p.Said("waits", 1)
	said := 0
	forks := func(n int) (stops, last int) {
		t.Helper()
		said++
		p.Say(fmt.Sprint(n))
		p.Said("forked", said)
		lines := strings.Split(strings.TrimSpace(p.Output.String()), "\n")
		fmt.Sscanf(lines[len(lines)-1], "forked %d %d", &stops, &last)
		return stops, last
	}
	harness.Eventually(t, "its children are not held", func() error {
		if stops, _ := forks(10); stops > 0 {
			return fmt.Errorf("%d of ten were", stops)
		}
		return nil
	})
	if err := os.WriteFile(filepath.Join(web.dir, "cgroup.procs"), fmt.Append(nil, p.PID), 0); err != nil {
		t.Fatal(err)
	}
	_, child := forks(1)
	if tr := d.Trace(child, "has ended", harness.Ended); !tr.Culprit.FromStart || tr.Culprit.FoundBy != event.FoundFork {
		t.Errorf("the child's trace: %+v", tr.Culprit)
	}
	d.Stop()
	h.Unharmed(uid)
}
