package hunt

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/test/harness"
)

// inContainer makes what is left of a container without its runtime: a cgroup with its id. It returns the
// directory and the id.
func inContainer(t *testing.T, around string) (dir, id string) {
	t.Helper()
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	id = hex.EncodeToString(b)
	return testkit.Cgroup(t, filepath.Join(around, "libpod-"+id+".scope")), id
}

// around is a cgroup of the test's own.
func around(t *testing.T) string {
	t.Helper()
	return testkit.Cgroup(t, filepath.Join(testkit.CgroupRoots(t)[0], fmt.Sprintf("culprit-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))))
}

// runs starts programs one after the other in the place where a process is, and waits for the last.
func runs(t *testing.T, s *harness.Sender, n int) {
	t.Helper()
	pid := s.Spawn(fmt.Sprintf(`sh -c "for i in $(seq %d); do /bin/true; done; exec sleep 1000"`, n))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	harness.Eventually(t, "the programs have run", func() error {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if !strings.HasPrefix(string(text), "sleep") {
			return fmt.Errorf("it is still %q", text)
		}
		return nil
	})
}

// A hit captures the user in one container. The same user in another and on the host is never traced; what he
// starts there is let go, and not only at the deadline.
func TestPair(t *testing.T) {
	for name, by := range map[string]func(string) string{"bpf": harness.ByBPF, "fanotify": harness.ByFanotify} {
		t.Run(name, func(t *testing.T) {
			h := harness.NewHost(t, "")
			uid, top := harness.NewUID(), around(t)
			inA, idA := inContainer(t, top)
			inB, idB := inContainer(t, top)
			d := h.Hunt(by(harness.Gated))
			a, b, host, idle := h.Sender(uid), h.Sender(uid), h.Sender(uid), h.Idle(uid)
			testkit.Enter(t, inA, a.PID)
			testkit.Enter(t, inA, idle.PID)
			testkit.Enter(t, inB, b.PID)
			check := harness.NeverTraced(t, b.PID, host.PID)

			a.Ask("a.badzone.test")
			harness.Traced(t, a.Process, idle)
			c := d.Capture(uid, "has two traces", func(c event.Capture) bool { return c.Culprit.Traces == 2 })
			if c.Container == nil || c.Container.ID != idA {
				t.Errorf("the capture is of the container %+v, want %s", c.Container, idA)
			}
			runs(t, a, 20)
			runs(t, b, 20) // 20 deadlines would take 100 s
			runs(t, host, 20)
			check()
			if got := d.Captures("--user", fmt.Sprint(uid)); len(got) != 1 || got[0].Culprit.Programs > 30 {
				t.Errorf("the captures are %+v", got)
			}

			// Each of the others has a capture of his own.
			b.Ask("b.badzone.test")
			host.Ask("host.badzone.test")
			harness.Traced(t, b.Process, host.Process)
			want := []string{idA, idB, "the host"}
			harness.Eventually(t, "there are three captures", func() error {
				var of []string
				for _, c := range d.Captures("--user", fmt.Sprint(uid)) {
					if c.Container == nil {
						c.Container = &event.Container{ID: "the host"}
					}
					of = append(of, c.Container.ID)
				}
				if !slices.Equal(of, want) {
					return fmt.Errorf("they are of %v, want %v", of, want)
				}
				return nil
			})
			d.Stop()
			h.Unharmed(uid)
		})
	}
}

// Nobody leaves his capture by a cgroup of his own, whatever its name: not even with the id of a container that
// is there.
func TestNobodyLeavesHisCapture(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid, top := harness.NewUID(), around(t)
	real, id := inContainer(t, top)
	own := testkit.Cgroup(t, filepath.Join(top, "own"))
	if err := os.Chown(own, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	same := testkit.Cgroup(t, filepath.Join(own, "libpod-"+id+".scope"))
	other, _ := inContainer(t, own)
	d := h.Hunt(harness.LongWindow)
	asks, stays, pretends, goes, inside := h.Sender(uid), h.Idle(uid), h.Idle(uid), h.Sender(uid), h.Idle(uid)
	testkit.Enter(t, same, pretends.PID)
	testkit.Enter(t, other, goes.PID)
	testkit.Enter(t, real, inside.PID)
	check := harness.NeverTraced(t, inside.PID)
	asks.Ask("x.badzone.test")
	harness.Traced(t, asks.Process, stays, pretends, goes.Process)
	goes.Ask("y.badzone.test")
	harness.Eventually(t, "its hit joins", func() error {
		if got := d.Captures("--user", fmt.Sprint(uid)); len(got) != 1 || got[0].Culprit.Hits != 2 || got[0].Container != nil {
			return fmt.Errorf("captures %+v", got)
		}
		return nil
	})
	check()
	d.Stop()
}

// With capture.scope: container all of a container is traced, also its root and what root starts in it from
// outside, and nobody else.
func TestContainerScope(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid, other, top := harness.NewUID(), harness.NewUID(), around(t)
	in, id := inContainer(t, top)
	d := h.Hunt(strings.Replace(harness.Gated, "capture:\n", "capture:\n  scope: container\n", 1))
	asks, second, root, host, later := h.Sender(uid), h.Idle(other), h.Idle(0), h.Idle(uid), h.Sender(0)
	for _, p := range []*harness.Process{asks.Process, second, root} {
		testkit.Enter(t, in, p.PID)
	}
	check := harness.NeverTraced(t, host.PID)
	asks.Ask("x.badzone.test")
	harness.Traced(t, asks.Process, second, root)
	c := d.Captures()
	if len(c) != 1 || c[0].Container == nil || c[0].Container.ID != id || c[0].Culprit.Scope != "container" {
		t.Errorf("captures %+v", c)
	}
	testkit.Enter(t, in, later.PID) // as docker exec does
	later.Say("exec sleep 1000")
	harness.Traced(t, later.Process)
	for pid, user := range map[int]uint32{second.PID: other, root.PID: 0} {
		tr := d.Trace(pid, "is there", func(event.Trace) bool { return true })
		if tr.User.ID != fmt.Sprint(user) {
			t.Errorf("the trace of %d is of %s, want %d", pid, tr.User.ID, user)
		}
	}
	check()
	d.Stop()
	h.Unharmed(uid, other)
}

// By hand, too: culprit trace --container.
func TestTraceContainer(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid, top := harness.NewUID(), around(t)
	in, id := inContainer(t, top)
	inside, outside := h.Idle(uid), h.Idle(uid)
	testkit.Enter(t, in, inside.PID)
	check := harness.NeverTraced(t, outside.PID)
	h.Culprit("trace", "--container", "nobody-is-called-this").Fails(t, 1, "nobody-is-called-this")
	p := h.StartAs(0, harness.Programs.Culprit, "trace", "--container", id[:12], "--uid", fmt.Sprint(uid), "--number", "1", "--out", filepath.Join(h.Dir, "out"))
	harness.Traced(t, inside)
	p.Said(" in "+id[:12], 1)
	inside.Stdin.Close()
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d:\n%s", got, p.Output)
	}
	check()
}
