package trigger

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// pretend makes a process in a fake /proc. All its texts are as long as the kernel allows, and
// take as many bytes in JSON as possible.
func pretend(t *testing.T, fs proc.FS, pid, ppid int, uid uint32) {
	t.Helper()
	dir := filepath.Join(string(fs), fmt.Sprint(pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const comm = "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
	long := strings.Repeat("\x02", 4000)
	for name, text := range map[string]string{
		"stat":    fmt.Sprintf("%d (%s) S %d 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 %d 1000000 50\n", pid, comm, ppid, 1000+pid),
		"status":  fmt.Sprintf("Tgid:\t%d\nPid:\t%[1]d\nTracerPid:\t0\nUid:\t%[2]d\t%[2]d\t%[2]d\t%[2]d\nGid:\t1\t1\t1\t1\n", pid, uid),
		"cmdline": strings.Repeat(long+"\x00", 4),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"exe", "cwd"} {
		if err := os.Symlink("/"+long, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, int(uid), -1); err != nil {
		t.Fatal(err)
	}
}

// Whatever a user names his processes, and however many he has: a hit is no longer than readers
// of events may rely on.
func TestHitIsBounded(t *testing.T) {
	t.Parallel()
	const uid, chain, candidates = 64203, 60, 20
	fs := proc.FS(t.TempDir())
	for pid := 1; pid <= chain; pid++ {
		pretend(t, fs, pid, pid-1, uid)
	}
	for i := range candidates {
		pretend(t, fs, 1000+i, chain, uid)
	}
	var asked []question
	for i := range maxQuestions {
		asked = append(asked, question{DNS: event.DNS{ID: "65535", Question: event.Question{Name: strings.Repeat(`\001`, 250), Type: fmt.Sprint("TYPE", i), Class: "IN"}}})
	}
	who := uint32(uid)
	in := nflogPacket{rule: strings.Repeat("r", 64), uid: &who}
	h := newHit(in, packet{network: event.Network{Transport: "47", Type: "ipv4"}}, asked, 0)
	f := originFinder{fs: fs, users: new(proc.Users)}
	f.find(h, in, 0)
	o := h.Culprit.Origin
	if o.Grade != event.GradeCandidates || len(o.Processes) != maxCandidates || o.More != chain+candidates-maxCandidates {
		t.Fatalf("grade %s, %d processes and %d more", o.Grade, len(o.Processes), o.More)
	}
	doc, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(doc))
	if len(doc) > event.MaxDocument || len(doc) < event.MaxDocument/2 {
		t.Errorf("the document of the worst hit has %d bytes, want %d at most, and a good part of them", len(doc), event.MaxDocument)
	}
	for _, p := range o.Processes {
		parents, left, top := 0, p.LeftOut, &p
		for top.Parent != nil {
			top = top.Parent
			parents, left = parents+1, left+top.LeftOut
		}
		if p.PID < 1000 || p.Parent.PID != chain || top.PID != 1 || parents+left != chain {
			t.Errorf("process %d of %d, up to %d: %d parents and %d left out", p.PID, p.Parent.PID, top.PID, parents, left)
		}
		for _, s := range []string{p.CommandLine, p.Executable, p.WorkingDirectory, top.CommandLine, top.Executable} {
			if !strings.HasSuffix(s, "…") {
				t.Errorf("a text of %d bytes does not say that it was cut", len(s))
			}
		}
	}
}

// If many processes share a socket a few are described, among them the one that opened it, and
// the others are counted.
func TestOriginOfManyHolders(t *testing.T) {
	t.Parallel()
	n, out := listen(t, twoRules)
	const children = 3 * maxCandidates
	cmd := exec.Command("/usr/bin/python3", "-c", fmt.Sprintf(`
import os, signal, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(%d):
    if os.fork() == 0:
        signal.pause()
s.sendto(b'BadZone', ('127.0.0.1', 53))
signal.pause()`, children))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64204, Gid: 64204}, Setpgid: true}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() }()
	h := next(t, out)
	o := h.Culprit.Origin
	if o.Grade != event.GradeSocket || len(h.Senders()) != maxCandidates || o.More != children+1-maxCandidates {
		t.Fatalf("grade %s (%s), %d processes and %d more", o.Grade, o.Reason, len(h.Senders()), o.More)
	}
	if !slices.ContainsFunc(h.Senders(), func(p event.Process) bool { return p.PID == cmd.Process.Pid }) {
		t.Errorf("who opened the socket, %d, is not among %+v", cmd.Process.Pid, h.Senders())
	}
}
