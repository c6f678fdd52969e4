package containers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/test/harness"
)

// inside lists the processes of a user in the container with an id, or on the host if that is empty.
func inside(uid uint32, id string) (pids []int) {
	all, _ := proc.Default.PIDs()
	for _, pid := range all {
		within, _ := container.New(proc.Default).Within(pid)
		if st, err := proc.Default.Status(pid); err == nil && st.Of(uid) && slices.Contains(within, id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// The same user in two containers and on the host: only the one that sent is captured, by the container's name, and
// then each by himself.
func TestSameUserInTwoContainers(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	p := newPodman(t, h, map[uint32]string{uid: "www-data"})
	d := h.Hunt(badzone + harness.Gated)
	user := fmt.Sprint(uid)
	web := p.start("--name", "web-1", "--user", user)
	mail := p.start("--name", "mail", "--user", user)
	host := h.Idle(uid)
	var ids []string
	for _, name := range []string{"web-1", "mail"} {
		ids = append(ids, p.id(name))
	}
	others := append(inside(uid, ids[1]), host.PID)
	if len(others) != 2 {
		t.Fatalf("processes in the other container: %v", others)
	}
	check := harness.NeverTraced(t, others...)
	p.asks(web, "a.badzone.test")
	c := d.Capture(uid, "has a trace", func(c event.Capture) bool { return c.Culprit.Traces > 0 })
	if c.Container == nil || c.Container.Name != "web-1" || c.Container.ID != ids[0] || c.Whose() != user+" (www-data in web-1)" {
		t.Errorf("the capture is of %s, in %+v", c.Whose(), c.Container)
	}
	p.asks(mail, "good.test") // it goes on, and starts programs
	check()
	if got := d.Captures("--container", "web-1"); len(got) != 1 {
		t.Errorf("captures of the container: %+v", got)
	}
	p.asks(mail, "b.badzone.test")
	harness.Eventually(t, "the other one has a capture of its own", func() error {
		got := d.Captures("--container", "mail")
		if len(got) != 1 || got[0].Container.ID != ids[1] || got[0].Culprit.Traces == 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if err := harness.IsFree(host.PID); err != nil {
		t.Errorf("the same user on the host: %v", err)
	}
	d.Stop()
}

// A whole container is captured whose root sent: with what is started in it later, also from outside, and without
// the runtime around it.
func TestWholeContainer(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	p := newPodman(t, h, nil)
	d := h.Hunt(badzone + strings.Replace(harness.Gated, "capture:\n", "capture:\n  scope: container\n", 1))
	web, mail := p.start("--name", "web-1"), p.start("--name", "mail")
	id, other := p.id("web-1"), inside(0, p.id("mail"))
	check := harness.NeverTraced(t, append(other, web.PID, mail.PID)...)
	p.asks(web, "a.badzone.test")
	root := inside(0, id)
	harness.Eventually(t, "root's shell is traced", func() error {
		for _, pid := range root {
			if _, tracer := harness.Status(pid); tracer == 0 {
				return fmt.Errorf("nobody traces %d", pid)
			}
		}
		return nil
	})
	h.StartAs(0, "podman", append(podmanArgs, "exec", "--interactive", "--user", "1234", "web-1", "/bin/cat")...)
	harness.Eventually(t, "what was started from outside is traced", func() error {
		for _, tr := range d.Traces() {
			if tr.Process.Executable == "/bin/busybox" && tr.User.ID == "1234" && tr.Process.CommandLine == "/bin/cat" {
				return nil
			}
		}
		return fmt.Errorf("traces %+v", d.Traces())
	})
	check()
	if got := d.Captures(); len(got) != 1 || got[0].Whose() != "all users in web-1" {
		t.Errorf("captures %+v", got)
	}
	d.Stop()
}
