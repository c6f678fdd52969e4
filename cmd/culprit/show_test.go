package main

import (
	"strings"
	"testing"

	"culprit/internal/event"
)

// What the kernel saw of the sender is shown, and a sender who is not the user who opened the
// socket.
func TestShowKernel(t *testing.T) {
	t.Parallel()
	h := &event.Hit{User: &event.User{ID: "0", Name: "root"}, Process: &event.Process{PID: 812, Name: "nginx"}}
	h.Culprit.Origin.Grade = event.GradeKernel
	h.Culprit.Sent = &event.Sent{TID: 813, Syscall: "sendfile", User: event.User{ID: "33", Name: "www-data"}}
	h.Culprit.Proof = &event.ProofDetail{Kernel: true, TID: 813, Syscall: "sendfile", Line: 12, Trace: event.Reference{ID: "T"}}
	same := *h
	same.User = &event.User{ID: "33", Name: "www-data"}
	for name, test := range map[string]struct {
		hit  *event.Hit
		want []string
		not  string
	}{
		"another user": {h, []string{
			"user         socket opened by root (0)\n", " sent by www-data (33), PID 812\n",
			"origin       kernel: the kernel saw this process send the packet\n", " the kernel saw thread 813 of www-data (33) in sendfile at ",
			"proof        the kernel saw this call send the packet; its bytes do not show: line 12 (sendfile by thread 813) of trace T\n",
		}, "from the kernel"},
		"the same user": {&same, []string{"user         www-data (33) (from the kernel: who opened the socket)\n", " the kernel saw thread 813 in sendfile at "}, "opened by"},
	} {
		var b strings.Builder
		s := detailPrinter{w: &b}
		s.user(test.hit)
		s.origin(test.hit)
		if err := s.proof(test.hit); err != nil {
			t.Error(err)
		}
		for _, want := range test.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is not in\n%s", name, want, &b)
			}
		}
		if strings.Contains(b.String(), test.not) {
			t.Errorf("%s: %q is in\n%s", name, test.not, &b)
		}
	}
}
