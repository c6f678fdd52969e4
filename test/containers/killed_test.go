package containers

import (
	"syscall"
	"testing"

	"culprit/test/harness"
)

// A daemon that is killed leaves nothing in the kernel: senders in other namespaces go on as if it had never been.
func TestKilledElsewhere(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	d := h.Hunt(config)
	uids := []uint32{harness.NewUID(), harness.NewUID()}
	caught(t, d, "x."+domain, func() int {
		p := other.StartAs(uids[0], harness.Programs.OffenderC, "-n", "x."+domain)
		p.Wait()
		return p.PID
	}(), uids[0])
	d.Signal(syscall.SIGKILL)
	d.Gone()
	for _, uid := range uids {
		if p := other.StartAs(uid, harness.Programs.OffenderC, "-n", "y."+domain); p.Wait() != 0 {
			t.Errorf("it ended with %d: %s", p.Wait(), p.Output)
		}
	}
	other.Unharmed(uids...)
}
