package trigger

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/florianl/go-nflog/v2"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// toChannel is an Output that passes hits on.
type toChannel struct {
	hits chan *event.Hit
	*collector
}

func (c toChannel) Hit(h *event.Hit) { c.hits <- h }

const logRule = "iptables -A OUTPUT -p udp --dport 53 -m string --algo bm --icase --string badzone -j NFLOG --nflog-group 5353 --nflog-prefix text --nflog-threshold 1"

// mustListen listens in a namespace, by a configuration.
func mustListen(t testing.TB, n *testkit.Net, yaml string) (l *Listener, c *config.Config) {
	t.Helper()
	c, err := config.Parse("test", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	n.Do(func() { l, err = Listen(c, nil, slog.New(slog.DiscardHandler)) })
	if err != nil {
		t.Fatal(err)
	}
	return l, c
}

// listen starts a listener in a namespace whose firewall logs "badzone".
func listen(t *testing.T, yaml string) (*testkit.Net, toChannel) {
	t.Helper()
	n := testkit.NewNet(t)
	l, c := mustListen(t, n, yaml)
	out := toChannel{make(chan *event.Hit, 100), newCollector()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, mustRules(t, c), out) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the listener ended: %v", err)
			}
		case <-time.After(testkit.Patience):
			t.Error("the listener does not end")
		}
		l.Close()
	})
	n.Must(t, "sh", "-c", logRule)
	return n, out
}

func next(t *testing.T, out toChannel) *event.Hit {
	t.Helper()
	select {
	case h := <-out.hits:
		return h
	case <-time.After(testkit.Patience):
		t.Fatal("no hit")
		return nil
	}
}

// The rules of a killed daemon keep logging. The next daemon can bind the group nevertheless,
// and then receives packets.
func TestListenInAFlood(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	n.Must(t, "sh", "-c", logRule)
	flood := exec.Command("/usr/bin/python3", "-c", "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nwhile True: s.sendto(b'BadZone', ('127.0.0.1', 53))")
	if err := n.Start(flood); err != nil {
		t.Fatal(err)
	}
	defer func() { flood.Process.Kill(); flood.Wait() }()
	c, err := config.Parse("test", []byte(twoRules))
	if err != nil {
		t.Fatal(err)
	}
	for round := range 100 {
		var l *Listener
		// The goroutine of go-nflog may have the last listener's socket a moment longer.
		for deadline := time.Now().Add(testkit.Patience); ; time.Sleep(time.Millisecond) {
			n.Do(func() { l, err = Listen(c, nil, slog.New(slog.DiscardHandler)) })
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		select {
		case <-l.queue:
		case <-time.After(testkit.Patience):
			t.Errorf("round %d: nothing was heard", round)
		}
		if err := l.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
}

// A living sender is found by its socket, even if its UID changed.
func TestOriginOfALiveProcess(t *testing.T) {
	t.Parallel()
	n, out := listen(t, twoRules)
	cmd := exec.Command("/usr/bin/python3", "-c", "import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(b'BadZone', ('127.0.0.1', 53)); print(s.getsockname()[1], flush=True); time.sleep(30)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64201, Gid: 64201}}
	cmd.Dir = "/"
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	h := next(t, out)
	var port uint16
	if _, err := fmt.Fscan(stdout, &port); err != nil {
		t.Fatal(err)
	}
	o := h.Culprit.Origin
	if h.User.String() != "64201" || h.Source.Port != port || h.Destination.String() != "127.0.0.1:53" || h.Asks() != "-" {
		t.Errorf("hit %+v, want port %d of user 64201", h, port)
	}
	if o.Grade != event.GradeSocket || len(h.Senders()) != 1 {
		t.Fatalf("origin %+v, want one process by its socket", o)
	}
	if p := h.Process; p.PID != cmd.Process.Pid || p.WorkingDirectory != "/" || !strings.HasPrefix(p.CommandLine, "/usr/bin/python3 -c") || p.Parent.PID != os.Getpid() || p.RealUser.ID != "64201" {
		t.Errorf("process %+v", p)
	}
}

// If the sender is gone, the other processes of its UID are named as a guess.
func TestOriginOfADeadProcess(t *testing.T) {
	t.Parallel()
	n, out := listen(t, twoRules)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64202, Gid: 64202}}
	bystander := exec.Command("sleep", "30")
	bystander.SysProcAttr = as
	if err := n.Start(bystander); err != nil {
		t.Fatal(err)
	}
	defer func() { bystander.Process.Kill(); bystander.Wait() }()
	// This process closes its socket before anybody looks at the packet.
	cmd := exec.Command("/usr/bin/python3", "-c", "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(b'badzone', ('127.0.0.1', 53)); s.close()")
	cmd.SysProcAttr = as
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	o := next(t, out).Culprit.Origin
	if o.Grade == event.GradeSocket { // we were faster than its close
		return
	}
	named := false
	for _, p := range o.Processes {
		named = named || p.PID == bystander.Process.Pid
	}
	if o.Grade != event.GradeCandidates || !named || o.Reason == nil {
		t.Errorf("origin %+v, want candidates with %d among them", o, bystander.Process.Pid)
	}
}

// A second reader of a group learns who reads it.
func TestGroupTaken(t *testing.T) {
	t.Parallel()
	n, _ := listen(t, twoRules)
	c, err := config.Parse("test", []byte(twoRules))
	if err != nil {
		t.Fatal(err)
	}
	n.Do(func() { _, err = Listen(c, nil, slog.New(slog.DiscardHandler)) })
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("group 5353: it already has a reader, trigger.test, PID %d", os.Getpid())) || !strings.Contains(err.Error(), "nflog.group") {
		t.Errorf("got %v", err)
	}
}

// Packets that do not fit into the queue are counted, and nothing waits for them.
func TestOverfullQueue(t *testing.T) {
	t.Parallel()
	l := &Listener{queue: make(chan nflogPacket, 2)}
	for range 5 {
		l.receive(attribute(0))
	}
	if got := l.counts.queue.Load(); got != 3 {
		t.Errorf("%d packets counted as dropped, want 3", got)
	}
}

// While nobody takes the hits, packets are read all the same: the kernel drops none. What does
// not fit into the queue is counted.
func TestSlowOutput(t *testing.T) {
	t.Parallel()
	const sent = 500
	n := testkit.NewNet(t)
	l, c := mustListen(t, n, twoRules+"\nnflog: {queue: 100}")
	defer l.Close()
	out := toChannel{make(chan *event.Hit), newCollector()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, mustRules(t, c), out) }()
	n.Must(t, "sh", "-c", logRule)
	n.Must(t, "/usr/bin/python3", "-c", fmt.Sprintf(`import socket
for i in range(%d): # from a port each, or the hits are joined
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 20000 + i))
    s.sendto(b"badzone", ("127.0.0.1", 53))`, sent))
	// One is in hand. What is not read when Run ends would be missing.
	for deadline := time.Now().Add(testkit.Patience); int(l.counts.queue.Load())+l.Waiting() < sent-1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d packets were dropped and %d wait, the kernel lost %d, %d were sent", l.counts.queue.Load(), l.Waiting(), l.lost(), sent)
		}
	}
	hits := 0
	cancel() // Run ends when the queue is empty
	for ended := false; !ended; {
		select {
		case <-out.hits:
			hits++
		case err := <-done:
			if ended = true; err != nil {
				t.Error(err)
			}
		case <-time.After(testkit.Patience):
			t.Fatalf("the listener stands after %d hits", hits)
		}
	}
	if lost := out.lost[event.LossKernel]; lost != 0 {
		t.Errorf("the kernel dropped %d packets", lost)
	}
	if dropped := int(l.counts.queue.Load() + uint64(out.lost[event.LossQueue])); hits < 100 || hits+dropped < sent {
		t.Errorf("%d hits, %d counted as dropped, %d sent", hits, dropped, sent)
	}
}

// Closing the socket ends the reading, and no loop spins.
func TestCloseEnds(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	l, _ := mustListen(t, n, twoRules)
	l.nf.Con.Close() // while it is being read
	if err := l.Run(t.Context(), nil, newCollector()); err == nil || !strings.Contains(err.Error(), "read NFLOG") {
		t.Errorf("got %v, want the error of the socket", err)
	}
	l.Close()
}

func attribute(seq uint32) nflog.Attribute { return nflog.Attribute{Seq: &seq} }
