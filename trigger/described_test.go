package trigger

import (
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/sensor"
)

// hitOf is the hit of a packet, of whose sender only the kernel's word is known.
func hitOf(sent sensor.Send) *event.Hit {
	h := &event.Hit{User: &event.User{ID: "7"}}
	h.Culprit.Sent = &event.Sent{User: event.User{ID: "8"}}
	return h
}

// In a flood, a sender is described once a second. Whoever may be somebody else is described anew.
func TestDescribed(t *testing.T) {
	sent := sensor.Send{Process: proc.ID{PID: 11, Start: 5}, UID: 7, EUID: 8, Cgroup: 9, Image: proc.Image{Stack: 1, Code: 2}}
	first := hitOf(sent)
	first.Process = &event.Process{PID: 11, Name: "sender"}
	first.Within, first.Located = []string{"outer"}, true
	first.User.Inside.ID, first.Culprit.Sent.User.Inside.ID = "70", "80"
	d := described{}
	d.keep(first, sent)

	next := hitOf(sent)
	if !d.reuse(next, sent) {
		t.Fatal("the same process is not described as before")
	}
	if next.Process != first.Process || !next.Located || len(next.Within) != 1 || next.User.Inside.ID != "70" || next.Culprit.Sent.User.Inside.ID != "80" {
		t.Errorf("it is described as %+v", next)
	}

	for what, change := range map[string]func(*sensor.Send, *event.Hit){
		"another process with its PID": func(s *sensor.Send, _ *event.Hit) { s.Process.Start++ },
		"another program":              func(s *sensor.Send, _ *event.Hit) { s.Image.Code++ },
		"another real user":            func(s *sensor.Send, _ *event.Hit) { s.UID++ },
		"another effective user":       func(s *sensor.Send, _ *event.Hit) { s.EUID++ },
		"another cgroup":               func(s *sensor.Send, _ *event.Hit) { s.Cgroup++ },
		"another user of the socket":   func(_ *sensor.Send, h *event.Hit) { h.User.ID = "6" },
		"no user of the socket":        func(_ *sensor.Send, h *event.Hit) { h.User = nil },
	} {
		other, h := sent, hitOf(sent)
		change(&other, h)
		if d.reuse(h, other) || h.Process != nil {
			t.Errorf("%s is described as the first one", what)
		}
	}

	was := d[senderOf(first, sent)]
	was.until = time.Now().Add(-time.Nanosecond)
	d[senderOf(first, sent)] = was
	if d.reuse(hitOf(sent), sent) {
		t.Error("it is still described as it was more than a second ago")
	}

	// Nobody else is kept in place of what was not learnt.
	clear(d)
	replaced, unlocated := hitOf(sent), hitOf(sent)
	replaced.Culprit.Sent.Replaced, replaced.Located = true, true
	d.keep(replaced, sent)
	d.keep(unlocated, sent)
	if len(d) != 0 {
		t.Errorf("%d descriptions were kept of senders of whom not all was learnt", len(d))
	}
	for pid := range 10 * maxDescribed {
		sent.Process.PID = pid
		d.keep(first, sent)
	}
	if len(d) > maxDescribed {
		t.Errorf("%d descriptions are kept, want %d at most", len(d), maxDescribed)
	}
}
