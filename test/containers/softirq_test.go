package containers

import (
	"errors"
	"fmt"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// reader takes one connection with a window of a few kilobytes, and reads nothing before it is told to.
const reader = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.bind(("127.0.0.1", 5300))
s.listen()
print("listens", flush=True)
c, _ = s.accept()
sys.stdin.readline()
n = 0
while chunk := c.recv(65536): n += len(chunk)
print("read", n, flush=True)
`

// writer fills the window of a connection, and then writes what the rule looks for: that can only leave when the reader reads.
const writer = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200000)
s.connect(("127.0.0.1", 5300))
s.sendall(b"-" * 60000)
s.sendall((sys.argv[1].encode() + b"-" * 80) * 100)
print("wrote", flush=True)
sys.stdin.readline()
`

// What waits in a connection leaves in an interrupt, while its receiver runs. That is a hit of the container that the connection
// belongs to, by whom nobody knows: neither the receiver is named, nor its container, nor is anybody of it stopped or traced.
func TestReceiverIsNotNamed(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	text := fmt.Sprintf("ZONE%d", harness.NewUID())
	d := h.Hunt(fmt.Sprintf("rules: [{name: text, string: %s, ports: [5300]}]\nnamespaces: all\n%s", text, harness.Gated))
	sends, receives := newGroup(t), newGroup(t)
	uid, victim := harness.NewUID(), harness.NewUID()
	r := receives.start(other, victim, "python3", "-I", "-S", "-c", reader)
	r.Said("listens", 1)
	w := sends.start(other, uid, "python3", "-I", "-S", "-c", writer, text)
	w.Said("wrote", 1)
	if all := d.Hits(); len(all) > 0 {
		t.Fatalf("it left before the receiver read: %+v", all[0])
	}
	check := harness.NeverTraced(t, r.PID)
	r.Say("")
	harness.Eventually(t, "there is a hit", func() error {
		if len(d.Hits()) == 0 {
			return errors.New("none")
		}
		return nil
	})
	w.Say("")
	r.Said("read", 1)
	check()
	d.Stop()
	for _, hit := range d.Hits() {
		if hit.Process != nil || len(hit.Culprit.Origin.Processes) > 0 || hit.Culprit.Sent != nil {
			t.Errorf("named is %+v, %+v", hit.Process, hit.Culprit.Origin)
		}
		if r := hit.Culprit.Origin.Reason; r == nil || r.Code != event.UnattributedContext {
			t.Errorf("nobody is named, as %+v", r)
		}
		if hit.User.ID != fmt.Sprint(uid) || hit.Container == nil || hit.Container.ID != sends.id {
			t.Errorf("the hit is of user %s in %+v, want %d in %s", hit.User.ID, hit.Container, uid, sends.id)
		}
	}
	for _, c := range d.Captures() {
		if c.User.ID != fmt.Sprint(uid) || c.Container == nil || c.Container.ID != sends.id {
			t.Errorf("a capture of %s in %+v", c.User.ID, c.Container)
		}
	}
	other.Unharmed(uid, victim)
}
