package hunt

import (
	"fmt"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// Packets whose bytes no line shows are proven by the system call in which the kernel saw them sent;
// without the sensor, culprit says that they are not proven. Those whose bytes show are proven by
// these.
func TestHidden(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		for _, sensor := range []string{"auto", "off"} {
			hidden(t, h, sensor)
		}
	})
}

func hidden(t *testing.T, h *harness.Host, sensor string) {
	d := h.Hunt(harness.Gated + "rules: [{name: zone, domain: badzone.test}]\nsensor: " + sensor + "\n")
	defer d.Stop()
	uid := harness.NewUID()
	defer d.Captured(uid).Cmd.Process.Kill()
	type sender struct {
		asks, call string // empty: the bytes show
		pid        int
	}
	var senders []sender
	for way, call := range map[string]string{"sendfile": "sendfile", "splice": "splice", "io_uring": "io_uring_enter", "send": "", "more": ""} {
		for name, how := range map[string][]string{"udp": nil, "six": {"-s", "::1"}, "tcp": {"-t"}} {
			asks := strings.ReplaceAll(way, "_", "") + "-" + name + ".badzone.test"
			p := h.StartAs(uid, harness.Programs.OffenderC, append([]string{"-n", asks, "-y", way}, how...)...)
			if p.Wait() != 0 {
				t.Errorf("%s over %s ended with %d: %s", way, name, p.Wait(), p.Output)
			}
			senders = append(senders, sender{asks, call, p.PID})
		}
	}
	for _, s := range senders {
		harness.Eventually(t, fmt.Sprintf("sensor %s: %s is proven", sensor, s.asks), func() error {
			if sensor == "off" && s.call != "" {
				return unproven(d, d.Hit(s.asks))
			}
			return provenIn(d, d.Hit(s.asks), s.pid, s.call)
		})
	}
}

// unproven returns an error unless a hit has no proof, and says why.
func unproven(d *harness.Daemon, hit event.Hit) error {
	show := d.Host.Culprit("show", hit.Event.ID, "--evidence", d.Evidence).Must(d.T)
	if p := hit.Culprit.Proof; p != nil || !strings.Contains(show, "proof        none: ") || strings.Contains(show, "none: not yet") {
		return fmt.Errorf("the proof is %+v:\n%s", p, show)
	}
	return nil
}

// provenIn returns an error unless a hit is proven by a call of a process that hides its bytes, or by
// bytes if call is empty.
func provenIn(d *harness.Daemon, hit event.Hit, pid int, call string) error {
	p, sent := hit.Culprit.Proof, hit.Culprit.Sent
	show := d.Host.Culprit("show", hit.Event.ID, "--evidence", d.Evidence).Must(d.T)
	switch {
	case p == nil || p.Probable || p.Kernel != (call != ""):
		return fmt.Errorf("the proof is %+v, the kernel saw %+v\n%s", p, sent, show)
	case hit.Process.PID != pid || p.TID != pid:
		return fmt.Errorf("it is proven against %d, %d sent it", hit.Process.PID, pid)
	case p.Kernel && (p.Syscall != call || sent.Syscall != call):
		return fmt.Errorf("it is proven by %s, the kernel saw %s; want %s", p.Syscall, sent.Syscall, call)
	case p.Kernel && !strings.Contains(show, "the kernel saw this call send the packet; its bytes do not show"):
		return fmt.Errorf("show does not say how it is proven:\n%s", show)
	case !strings.Contains(show, fmt.Sprintf("\n  > %6d  ", p.Line)):
		return fmt.Errorf("show does not mark line %d:\n%s", p.Line, show)
	}
	return nil
}

// twinsScript has two processes send the same bytes from one socket, at the same time.
const twinsScript = `
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
for i in range(20):
    q = os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0\x06twin%02d\x07badzone\x04test\0\0\x01\0\x01" % i
    if os.fork() == 0:
        s.send(q)
        os._exit(0)
    s.send(q)
    os.wait()
`

// Of two processes that send the same bytes from one socket, the line of the one that the kernel saw
// is the proof.
func TestTwins(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated + "rules: [{name: zone, domain: badzone.test}]\n")
	uid := harness.NewUID()
	d.Captured(uid)
	if p := h.StartAs(uid, "python3", "-I", "-S", "-c", twinsScript); p.Wait() != 0 {
		t.Fatalf("the senders ended with %d: %s", p.Wait(), p.Output)
	}
	for i := range 20 {
		name := fmt.Sprintf("twin%02d.badzone.test", i)
		harness.Eventually(t, name+" is proven", func() error {
			hit := d.Hit(name)
			p, sent := hit.Culprit.Proof, hit.Culprit.Sent
			if p == nil || p.Probable || p.Kernel || sent == nil || p.TID != sent.TID || hit.Process.PID != sent.TID {
				return fmt.Errorf("the proof is %+v against %v, the kernel saw %+v", p, hit.Process, sent)
			}
			return nil
		})
	}
}

// The kernel's word proves a line whose string strace cuts short; without the sensor it is only
// probable.
func TestCut(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	for _, sensor := range []string{"auto", "off"} {
		d := h.Hunt("sensor: " + sensor + "\ncapture: {levels: [{hits: 1, processes: 200, window: 10m, strings: 32}], gate_deadline: 5s}\n")
		uid := harness.NewUID()
		s := d.Captured(uid)
		for name, how := range map[string][]string{"udp": nil, "six": {"-s", "::1"}, "tcp": {"-t"}} {
			asks := "longer-than-it-shows-" + name + ".badzone.test"
			p := h.StartAs(uid, harness.Programs.OffenderC, append([]string{"-n", asks}, how...)...)
			p.Wait()
			harness.Eventually(t, fmt.Sprintf("sensor %s: %s is proven", sensor, asks), func() error {
				if proof := d.Hit(asks).Culprit.Proof; sensor == "off" {
					if proof == nil || !proof.Probable || proof.Kernel {
						return fmt.Errorf("the proof is %+v", proof)
					}
					return nil
				}
				return provenIn(d, d.Hit(asks), p.PID, "sendto")
			})
		}
		s.Cmd.Process.Kill()
		d.Stop()
	}
}

// becomesScript opens a socket as root and sends from it as another user.
const becomesScript = `
import os, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
os.setuid(int(sys.argv[1]))
for name in b"\x05first", b"\x06second":
    s.send(os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + name + b"\x07badzone\x04test\0\0\x01\0\x01")
    time.sleep(1)
`

// A socket that one user opens and another one sends from: the hit shows both, and its proof is the
// sender's.
func TestOpenedByAnother(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated + "rules: [{name: zone, domain: badzone.test}]\n")
	uid := harness.NewUID()
	p := h.StartAs(0, "python3", "-I", "-S", "-c", becomesScript, fmt.Sprint(uid))
	if p.Wait() != 0 {
		t.Fatalf("the sender ended with %d: %s", p.Wait(), p.Output)
	}
	for _, name := range []string{"first", "second"} {
		harness.Eventually(t, name+" shows both", func() error {
			hit := d.Hit(name + ".badzone.test")
			show := h.Culprit("show", hit.Event.ID, "--evidence", d.Evidence).Must(t)
			for _, want := range []string{"socket opened by root (0)\n", fmt.Sprintf("sent by %d, PID %d\n", uid, p.PID)} {
				if !strings.Contains(show, want) {
					return fmt.Errorf("%q is not in\n%s", want, show)
				}
			}
			if proof := hit.Culprit.Proof; name == "second" && (proof == nil || proof.Probable || proof.TID != p.PID) {
				return fmt.Errorf("the proof is %+v:\n%s", proof, show)
			}
			return nil
		})
	}
}
