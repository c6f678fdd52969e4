package containers

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// zone is a domain of one test, and a configuration that looks for it in some namespaces. The kernel shows the daemon
// all namespaces of the machine: no other test may send what it looks for.
func zone(namespaces string) (domain, config string) {
	domain = fmt.Sprintf("zone%d.test", harness.NewUID())
	return domain, fmt.Sprintf("rules: [{name: zone, domain: %s}]\nnamespaces: %s\n%s", domain, namespaces, harness.Gated)
}

// caught checks that the first packet of a program named it, and that its trace begins there and has the packet.
func caught(t *testing.T, d *harness.Daemon, name string, pid int, uid uint32) event.Hit {
	t.Helper()
	hit := d.Hit(name)
	if hit.Culprit.Sent == nil || hit.Process == nil || hit.Process.PID != pid {
		t.Fatalf("the origin of the hit is %+v, process %v, want %d by the kernel", hit.Culprit.Origin, hit.Process, pid)
	}
	if s := hit.Culprit.Sent; s.User.ID != fmt.Sprint(uid) || hit.User == nil || hit.User.ID != fmt.Sprint(uid) || !strings.HasPrefix(s.Syscall, "send") && s.Syscall != "write" {
		t.Errorf("the kernel saw %+v of user %v, want %d", s, hit.User, uid)
	}
	tr := d.Trace(pid, "has ended", harness.Ended)
	if !tr.Culprit.FromPacket {
		t.Errorf("the trace of %s does not begin with the packet: %+v", name, tr.Culprit)
	}
	hit = proven(t, d, name)
	if hit.Culprit.Proof.Trace.ID != tr.Event.ID {
		t.Errorf("the proof is %+v", hit.Culprit.Proof)
	}
	return hit
}

// proven waits for the proof of the hit that asks for a name.
func proven(t *testing.T, d *harness.Daemon, name string) (hit event.Hit) {
	t.Helper()
	harness.Eventually(t, name+" is proven", func() error {
		if hit = d.Hit(name); hit.Culprit.Proof == nil {
			return errors.New("it has no proof")
		}
		return nil
	})
	return hit
}
