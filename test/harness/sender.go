package harness

import (
	"fmt"
	"strconv"
	"strings"
)

// A Sender is a process that lives on and sends packets when it is told to, all
// from one UDP socket that it keeps open.
type Sender struct {
	*Process
	Replies int
}

// senderScript does what it is told on standard input, line by line, and answers
// each line with one.
const senderScript = `
import os, shlex, socket, struct, subprocess, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
def query(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"
print("port", s.getsockname()[1], flush=True)
for line in sys.stdin:
    what, *args = shlex.split(line)
    if what == "ask":
        for _ in range(int(args[1])):
            s.send(query(args[0]))
        print("asked", flush=True)
    elif what == "raw":
        s.send(bytes.fromhex(args[0]))
        print("sent", flush=True)
    elif what == "spawn":
        print("spawned", subprocess.Popen(args, stdin=subprocess.DEVNULL).pid, flush=True)
    elif what == "exec":
        os.execvp(args[0], args)
    elif what == "chat":
        while True: os.getppid()
`

// Sender starts a sender of a user.
func (h *Host) Sender(uid uint32) *Sender {
	h.T.Helper()
	s := &Sender{Process: h.StartAs(uid, "python3", "-I", "-S", "-c", senderScript)}
	s.Reply()
	return s
}

// Reply waits for the answer to the last line, and returns its last word.
func (s *Sender) Reply() string {
	s.T.Helper()
	s.Replies++
	var last string
	Eventually(s.T, "the sender answers", func() error {
		lines := strings.SplitAfter(s.Output.String(), "\n")
		if len(lines) <= s.Replies {
			return fmt.Errorf("it said %q", lines)
		}
		words := strings.Fields(lines[s.Replies-1])
		last = words[len(words)-1]
		return nil
	})
	return last
}

// Ask sends a query.
func (s *Sender) Ask(name string) { s.AskTimes(name, 1) }

// AskTimes sends a query so many times.
func (s *Sender) AskTimes(name string, n int) {
	s.T.Helper()
	s.Say(fmt.Sprintf("ask %s %d", name, n))
	s.Reply()
}

// AskOn asks for one name below badzone.test after the other, until stop is called. That waits for the last hit, and returns how many
// names were asked for, and of how many there are hits.
func (s *Sender) AskOn() (stop func(d *Daemon) (sent, hits int)) {
	ending, done := make(chan struct{}), make(chan struct{})
	sent := 0
	name := func() string { return fmt.Sprintf("q%d.badzone.test", sent) }
	go func() {
		defer close(done)
		for {
			select {
			case <-ending:
				return
			default:
				sent++
				s.Ask(name())
			}
		}
	}()
	return func(d *Daemon) (int, int) {
		d.T.Helper()
		close(ending)
		<-done
		d.Hit(name())
		seen := map[string]bool{}
		for _, hit := range d.Hits() {
			seen[hit.DNS.Question.Name] = true
		}
		return sent, len(seen)
	}
}

// Raw sends any payload.
func (s *Sender) Raw(payload string) {
	s.T.Helper()
	s.Say(fmt.Sprintf("raw %x", payload))
	s.Reply()
}

// Spawn starts a child and returns its PID.
func (s *Sender) Spawn(command string) int {
	s.T.Helper()
	s.Say("spawn " + command)
	pid, err := strconv.Atoi(s.Reply())
	if err != nil {
		s.T.Fatalf("the sender did not tell the PID: %v\n%s", err, s.Output)
	}
	return pid
}
