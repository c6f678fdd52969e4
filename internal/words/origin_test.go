package words

import (
	"testing"

	"culprit/internal/event"
)

// What the kernel saw is said of the sender, and of the user if it is not the one who opened the
// socket.
func TestKernel(t *testing.T) {
	t.Parallel()
	h := &event.Hit{User: &event.User{ID: "0", Name: "root"}, Process: &event.Process{PID: 812, Name: "nginx"}}
	h.Culprit.Origin = event.Origin{Grade: event.GradeKernel, Processes: []event.Process{{PID: 700}}}
	h.Culprit.Sent = &event.Sent{TID: 813, Syscall: "sendfile", User: event.User{ID: "33", Name: "www-data"}}
	same, unnamed := *h, *h
	same.User = &event.User{ID: "33"}
	unnamed.Culprit.Sent = &event.Sent{TID: 813}
	for got, want := range map[string]string{
		Grade(&h.Culprit.Origin):   "kernel: the kernel saw this process send the packet",
		Origin(h):                  "kernel: the kernel saw process 812 nginx send the packet",
		Sender(h):                  "812 nginx",
		Role(&h.Culprit.Origin, 0): "the kernel saw it send the packet",
		Role(&h.Culprit.Origin, 1): "it held the packet's socket",
		Sent(h):                    "thread 813 of www-data (33) in sendfile",
		Sent(&same):                "thread 813 in sendfile",
		Sent(&unnamed):             "thread 813 in an unknown system call",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if OtherUser(&same) || OtherUser(&event.Hit{}) || !OtherUser(h) {
		t.Error("the sender's user is not compared with the socket's")
	}
}

func TestProof(t *testing.T) {
	t.Parallel()
	parts := func(lines ...int64) (all []event.Line) {
		for _, l := range lines {
			all = append(all, event.Line{Line: l})
		}
		return all
	}
	for _, test := range []struct {
		p            *event.ProofDetail
		brief, grade string
	}{
		{&event.ProofDetail{Syscall: "sendto", Line: 12}, "sendto, line 12", "this line sent the packet"},
		{&event.ProofDetail{Syscall: "sendto", Line: 12, Parts: parts(10)}, "sendto, lines 10 and 12", "these lines sent the packet"},
		{&event.ProofDetail{Syscall: "setsockopt", Line: 12, Parts: parts(8, 10, 11)}, "setsockopt, lines 8, 10, 11 and 12", "these lines sent the packet"},
		{&event.ProofDetail{Syscall: "write", Line: 99, Parts: parts(1, 2, 3, 4)}, "write, 5 lines from 1 to 99", "these lines sent the packet"},
		{&event.ProofDetail{Syscall: "sendto", Line: 12, Probable: true}, "probably sendto, line 12", "probable: this line agrees with the packet in all that both show"},
		{&event.ProofDetail{Syscall: "sendto", Line: 12, Parts: parts(10), Probable: true}, "probably sendto, lines 10 and 12", "probable: these lines agree with the packet in all that both show"},
		{&event.ProofDetail{Syscall: "sendfile", Line: 12, Kernel: true}, "sendfile, line 12, as the kernel saw", KernelProof},
		{&event.ProofDetail{Syscall: "sendto", Line: 12, Parts: parts(10), Kernel: true}, "sendto, lines 10 and 12, as the kernel saw", KernelProof + " (the last of several that made it)"},
	} {
		if got := Proof(test.p); got != test.brief {
			t.Errorf("%q, want %q", got, test.brief)
		}
		if got := ProofGrade(test.p); got != test.grade {
			t.Errorf("%q, want %q", got, test.grade)
		}
	}
	if Proof(nil) != "-" {
		t.Error("no proof is not -")
	}
}
