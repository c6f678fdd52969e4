package trigger

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/sensor"
)

// described are the senders that were described lately, as their hits have it. To describe one takes 0.3 ms: in a flood that is longer than from one packet
// to the next, and what /proc says by then is as much later than the packet. One goroutine owns it.
type described map[sender]description

// A sender is what the kernel says of who sent a packet: a process that runs the same program as before, is the same user
// and in the same cgroup is described the same.
type sender struct {
	process   proc.ID
	image     proc.Image
	uid, euid uint32
	cgroup    uint64
	socket    string // user of the socket, who is the user of the hit
}

// A description has those fields of a hit, by their names there.
type description struct {
	process      *event.Process
	serves       []event.Served
	place        event.Place
	within       []string
	socket, sent event.Inside
	until        time.Time
}

const (
	describedFor = time.Second
	maxDescribed = 64
)

func senderOf(h *event.Hit, sent sensor.Send) sender {
	s := sender{process: sent.Process, image: sent.Image, uid: sent.UID, euid: sent.EUID, cgroup: sent.Cgroup}
	if h.User != nil {
		s.socket = h.User.ID
	}
	return s
}

// keep keeps the description of a hit's sender.
func (d described) keep(h *event.Hit, sent sensor.Send) {
	if h.Culprit.Sent.Replaced || !h.Located {
		return // what there is to know was not learnt
	}
	if len(d) >= maxDescribed {
		clear(d)
	}
	was := description{
		process: h.Process, serves: h.Culprit.Serves, place: h.Place, within: h.Within, sent: h.Culprit.Sent.User.Inside,
		until: time.Now().Add(describedFor),
	}
	if h.User != nil {
		was.socket = h.User.Inside
	}
	d[senderOf(h, sent)] = was
}

// reuse describes the sender of a hit as that of an earlier one, and reports whether it could.
func (d described) reuse(h *event.Hit, sent sensor.Send) bool {
	was, ok := d[senderOf(h, sent)]
	if !ok || time.Now().After(was.until) {
		return false
	}
	h.Process, h.Culprit.Serves = was.process, was.serves
	h.Place, h.Within, h.Located = was.place, was.within, true
	h.Culprit.Sent.User.Inside = was.sent
	if h.User != nil {
		h.User.Inside = was.socket
	}
	return true
}
