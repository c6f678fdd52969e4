package sensor

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"culprit/test/harness"
)

// A process becomes another program right after its packet, and its parent keeps it from being stopped
// there: that program did not send the packet, and is never named for it.
func TestBecomesAnother(t *testing.T) {
	t.Parallel()
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		const senders = 20
		p := python(h, harness.NewUID(), fmt.Sprintf(`
for i in range(%d):
    if os.fork() == 0:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        time.sleep(0.05)
        s.sendto(query("p%%d.badzone.test" %% os.getpid()), ("127.0.0.1", 53))
        os.execl("/bin/sleep", "innocent", "0.2")
    os.waitpid(-1, os.WUNTRACED)
print("sent", flush=True)
signal.pause()`, senders))
		p.Said("sent", 1)
		harness.Eventually(t, "all packets are hits", func() error {
			if n := len(d.Hits()); n != senders {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		for _, hit := range d.Hits() {
			if exe := hit.Process.Executable; hit.Culprit.Sent == nil || exe != "" && !strings.Contains(exe, "python") {
				t.Errorf("the hit of %s names %s %q, sent %+v", hit.DNS.Question.Name, hit.Process.Executable, hit.Process.CommandLine, hit.Culprit.Sent)
			}
		}
	})
}

// The first thread of a process has ended, and nobody can attach to it, nor does /proc show its program: the
// others have it, and are traced.
func TestFirstThreadEnded(t *testing.T) {
	t.Parallel()
	eachWay(t, harness.Gated, func(t *testing.T, h *harness.Host, d *harness.Daemon) {
		p := python(h, harness.NewUID(), `
import ctypes, threading
def send():
    while " Z " not in open(f"/proc/{os.getpid()}/stat").read():
        time.sleep(0.01)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for name in ("first", "again"):
        s.sendto(query(name + ".badzone.test"), ("127.0.0.1", 53))
    time.sleep(60)
threading.Thread(target=send).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0) # exit, of this thread only`)
		hit := d.Hit("first.badzone.test")
		if p := hit.Process; hit.Culprit.Sent == nil || !strings.Contains(p.Executable, "python") || !strings.Contains(p.CommandLine, "again") {
			t.Errorf("the hit names %s %q, sent %+v", p.Executable, p.CommandLine, hit.Culprit.Sent)
		}
		d.Hit("again.badzone.test")
		tr := d.Trace(p.PID, "is there", nil)
		if !tr.Culprit.FromPacket {
			t.Errorf("the trace is not from the first packet on: %+v", tr.Culprit)
		}
		p.Signal(syscall.SIGKILL)
		p.Wait()
		d.Stop()
		if hit := d.Proven(t, "again.badzone.test"); hit.Culprit.Proof == nil || hit.Culprit.Proof.TID == p.PID || hit.Process.PID != p.PID {
			t.Errorf("the proof is %+v, want another thread of process %d", hit.Culprit.Proof, p.PID)
		}
	})
}
