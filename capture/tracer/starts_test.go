package tracer

import "testing"

func TestStarts(t *testing.T) {
	var s starts
	over := func(want bool) {
		t.Helper()
		select {
		case <-s.over():
			if !want {
				t.Error("no strace is said to be starting, but one is")
			}
		default:
			if want {
				t.Error("a strace is said to be starting, but none is")
			}
		}
	}
	over(true)
	s.begin()
	s.begin()
	waiting := s.over()
	s.end()
	over(false)
	s.end()
	over(true)
	s.begin() // whoever waited before waits no longer
	over(false)
	<-waiting
	s.end()
	over(true)
}
