package selftest

import (
	"strings"

	"culprit/internal/event"
)

// firstPacket checks the first packet of a user whom nobody watched: the kernel names its sender,
// and stops it, so that its trace begins with the packet.
func (h *hunt) firstPacket() Check {
	const seeSensor = seeDoctor + " about the sensor"
	if why := h.unusable(); why != "" {
		return Check{Status: NotHere, Found: why}
	}
	q, hit, why := h.firstQuery()
	if why != nil {
		return *why
	}
	switch {
	case hit == nil:
		return failed(seeDoctor+" about rules", "the packet did not match")
	case hit.Culprit.Sent == nil || hit.Process == nil || hit.Process.PID != q.pid:
		return failed(seeSensor, "the kernel did not name the sender: the origin has the grade %s", hit.Culprit.Origin.Grade)
	case h.stopErr != nil:
		return failed(seeLog, "the daemon did not stop cleanly: %v", h.stopErr)
	case h.saveErr[q.family] != nil || len(h.leftover[q.family]) > 0:
		return failed(report, "left behind: %s %v", strings.Join(h.leftover[q.family], "; "), h.saveErr[q.family])
	}
	return h.caught(q, hit, h.logged("the kernel says who sends a packet", "freeze=false"), "the kernel named the sender, in "+hit.Culprit.Sent.Syscall)
}

// firstQuery returns the first query and its hit, nil if there is none, or why there was no query.
func (h *hunt) firstQuery() (q sentQuery, hit *event.Hit, why *Check) {
	var c Check
	switch {
	case h.err != nil:
		c = failed(seeLog, "%v", h.err)
	case len(h.queries) == 0:
		c = skipped("no packet was sent")
	default:
		q = h.queries[0]
		return q, h.hit(q), nil
	}
	return q, nil, &c
}

// caught checks that the sender of a first packet was stopped, if the kernel can do that, and that its trace proves it.
func (h *hunt) caught(q sentQuery, hit *event.Hit, runsOn bool, named string) Check {
	if runsOn {
		return ok(nil, "%s; in this way it cannot stop it here", named)
	}
	for i := range h.traces {
		t := &h.traces[i]
		if t.Process.PID != q.pid {
			continue
		}
		if !t.Culprit.FromPacket {
			return failed(seeLog, "%s; strace was attached only after it had gone on", named)
		}
		if h.proof(hit) == nil {
			return failed(report, "%s and stopped it, but no line of its trace is the proof", named)
		}
		stood := milliseconds(t.Culprit.AttachMS)
		return ok(values("stood", stood), "%s, and stopped it: strace was attached %s after the packet, and its trace begins with it", named, ms(stood))
	}
	return failed(seeDoctor+" about the sensor", "%s, but it was not traced", named)
}

// unusable says why the daemon refused the way of the sensor, or returns "".
func (h *hunt) unusable() string {
	for _, line := range h.log {
		if _, why, found := strings.Cut(line, "culprit: sensor: "+string(h.sensor)+": "); found {
			return strings.TrimSuffix(why, ": choose another way, or auto")
		}
	}
	return ""
}

// logged reports whether a line of the daemon's log has a message and says something.
func (h *hunt) logged(message, text string) bool {
	for _, line := range h.log {
		if strings.Contains(line, message) && strings.Contains(line, text) {
			return true
		}
	}
	return false
}
