package trigger

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/testkit"
)

// Whose packets look like another's names nobody innocent: neither by chance, nor if
// somebody means to frame another user. Each test has a guilty process, and an innocent one
// whose socket has the packet's addresses.

// python starts a script as a user, and returns its PID and what it prints.
func python(t *testing.T, n *testkit.Net, uid uint32, script string) (pid int, lines *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "-I", "-S", "-c", "import os, signal, socket, struct, sys, time\n"+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	return cmd.Process.Pid, bufio.NewReader(out)
}

// ready waits for the first line of a script.
func ready(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// innocent fails the test if a hit names a process as its sender that is not the guilty one.
func innocent(t *testing.T, h *event.Hit, guilty int, may event.Grade) {
	t.Helper()
	o := h.Culprit.Origin
	if o.Grade == event.GradeSocket && may == event.GradeSocket && h.Process.PID == guilty {
		return
	}
	if o.Grade == event.GradeSocket || h.Process != nil {
		t.Errorf("process %v is named as the sender, by %+v; it was %d", h.Process, o, guilty)
	}
	if o.Reason == nil {
		t.Errorf("the origin %+v has no reason", o)
	}
}

// Two sockets share a port, and the idle one was bound first.
func TestSharedPort(t *testing.T) {
	t.Parallel()
	const bound = `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 5353))
`
	for _, tt := range []struct {
		name         string
		idle, sender uint32
		may          event.Grade
	}{
		{"of two users", 64211, 64212, event.GradeSocket},
		{"of one user", 64213, 64213, event.GradeCandidates},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, out := listen(t, twoRules)
			_, lines := python(t, n, tt.idle, bound+"print('bound', flush=True)\nsignal.pause()")
			ready(t, lines)
			guilty, _ := python(t, n, tt.sender, bound+"s.sendto(b'badzone', ('127.0.0.1', 53))\nsignal.pause()")
			h := next(t, out)
			innocent(t, h, guilty, tt.may)
			if o := h.Culprit.Origin; tt.may == event.GradeSocket && o.Grade != event.GradeSocket {
				t.Errorf("the only socket of the packet's user is not found: %+v", o)
			} else if tt.may != event.GradeSocket && o.Reason.Code != event.UnattributedShared {
				t.Errorf("the reason is %+v, want that more than one socket could have sent it", o.Reason)
			}
		})
	}
}

// A process that has all sockets of a port is the sender, whichever of them it was.
func TestSharedPortOfOneProcess(t *testing.T) {
	t.Parallel()
	n, out := listen(t, twoRules)
	guilty, _ := python(t, n, 64214, `
all = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
for s in all:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("0.0.0.0", 5353))
all[1].sendto(b'badzone', ('127.0.0.1', 53))
signal.pause()`)
	if h := next(t, out); h.Culprit.Origin.Grade != event.GradeSocket || h.Process.PID != guilty {
		t.Errorf("the hit is of %v, %+v, want %d", h.Process, h.Culprit.Origin, guilty)
	}
}

// A raw socket sends from whatever port it likes, also that of another's socket.
func TestRawSocket(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		uid  uint32 // of the innocent
	}{{"from another user's port", 64215}, {"from a port of the same user", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, out := listen(t, twoRules)
			_, lines := python(t, n, tt.uid, `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
signal.pause()`)
			port := ready(t, lines)
			guilty, _ := python(t, n, 0, fmt.Sprintf(`
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
for _ in range(3):
    s.sendto(struct.pack("!HHHH", %s, 53, 8 + 7, 0) + b"badzone", ("127.0.0.1", 0))
    time.sleep(1.1) # or it is one hit
signal.pause()`, port))
			for range 3 {
				innocent(t, next(t, out), guilty, event.GradeCandidates)
			}
		})
	}
}

// Ports are few and are taken again at once: by who sends and ends, and by another user who
// binds one after the other.
func TestSuccessors(t *testing.T) {
	t.Parallel()
	n, out := listen(t, twoRules)
	n.Must(t, "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003")
	binder, _ := python(t, n, 64216, `
while True:
    try:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", 0))
    except OSError:
        pass
    s.close()`)
	_, lines := python(t, n, 64217, `
sent = 0
while sent < 300:
    if os.fork():
        os.wait()
        sent += 1
        continue
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        name = b"x%d" % sent # or they are few hits
        s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0" + bytes([len(name)]) + name + b"\7badzone\4test\0\0\1\0\1", ("127.0.0.1", 53))
    except OSError:
        pass
    s.close()
    os._exit(0)
print("sent", flush=True)`)
	go io.Copy(io.Discard, lines)
	hits, named := 0, 0
	for quiet := false; !quiet; {
		select {
		case h := <-out.hits:
			hits++
			for _, p := range append(h.Senders(), h.Culprit.Origin.Processes...) {
				if p.PID == binder {
					named++
				}
			}
		case <-time.After(3 * time.Second):
			quiet = true
		}
	}
	t.Logf("%d hits", hits)
	if hits < 20 {
		t.Errorf("only %d hits", hits)
	}
	if named > 0 {
		t.Errorf("%d of %d hits name the process that only binds ports", named, hits)
	}
}
