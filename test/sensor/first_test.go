package sensor

import (
	"fmt"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// The first program of a user whom nobody watched lives two milliseconds: the hit names it by
// the kernel's word, and its trace begins with the packet.
func TestFirst(t *testing.T) {
	t.Parallel()
	eachWayAndBackend(t, func(t *testing.T, h *harness.Host, way string) {
		before := h.Firewall()
		d := h.Hunt("sensor: " + way + "\n" + harness.Gated)
		for i, args := range [][]string{{}, {"-s", "::1"}, {"-t"}, {"-t", "-s", "::1"}} {
			uid := harness.NewUID()
			name := fmt.Sprintf("first-%d.badzone.test", i)
			p := h.StartAs(uid, harness.Programs.OffenderC, append([]string{"-n", name}, args...)...)
			if got := p.Wait(); got != 0 {
				t.Fatalf("the program ended with %d: %s", got, p.Output)
			}
			hit := d.Hit(name)
			first(t, hit, p.PID, uid)
			tr := d.Trace(p.PID, "has ended", harness.Ended)
			if !tr.Culprit.FromPacket || tr.Culprit.FoundBy != event.FoundPacket || tr.Culprit.Hit == nil || tr.Culprit.Hit.ID != hit.Event.ID {
				t.Errorf("the trace of %s is %+v", name, tr.Culprit)
			}
			harness.Eventually(t, name+" is proven", func() error {
				if p := d.Hit(name).Culprit.Proof; p == nil || !p.Kernel || p.Trace.ID != tr.Event.ID || p.TID != hit.Culprit.Sent.TID {
					return fmt.Errorf("the proof is %+v", p)
				}
				return nil
			})
			shown := h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t)
			if !strings.Contains(shown, "at the instant it sent the first packet") {
				t.Errorf("show has no snapshot:\n%s", shown)
			}
			_, _, body := harness.ReadTrace(t, tr.File.Path)
			if !strings.Contains(body, "exit_group") && !strings.Contains(body, "exited with 0") {
				t.Errorf("the trace of %s does not show its end:\n%s", name, body)
			}
		}
		d.Stop()
		h.Unchanged(before, "after the hunt")
	})
}

// first checks that the kernel named the sender.
func first(t *testing.T, hit event.Hit, pid int, uid uint32) {
	t.Helper()
	if hit.Culprit.Sent == nil || hit.Process == nil || hit.Process.PID != pid {
		t.Fatalf("the origin of the hit is %+v, process %v, want %d by the kernel", hit.Culprit.Origin, hit.Process, pid)
	}
	s := hit.Culprit.Sent
	if s.TID != pid || s.User.ID != fmt.Sprint(uid) || !strings.HasPrefix(s.Syscall, "send") && s.Syscall != "write" {
		t.Errorf("the kernel saw %+v", s)
	}
	if d := hit.Timestamp.Sub(s.Timestamp); d < 0 || d.Seconds() > 1 {
		t.Errorf("the kernel saw it %v before the packet was received", d)
	}
}
