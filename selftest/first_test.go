package selftest

import (
	"errors"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/sensor"
)

// goodFirst is a hunt of one packet in which everything went well.
func goodFirst() *hunt {
	h := good()
	h.full, h.sensor = false, sensor.WayRule
	q := h.queries[0]
	h.queries = h.queries[:1]
	hit := h.hit(q)
	hit.Process = &event.Process{PID: q.pid}
	hit.Culprit.Sent = &event.Sent{TID: q.pid, Syscall: "write"}
	hit.Culprit.Origin.Grade = event.GradeKernel
	for i := range h.traces {
		h.traces[i].Culprit.FromPacket = true
	}
	h.log = []string{`time=x level=INFO msg="the kernel says who sends a packet" sensor=rule freeze=true`}
	return h
}

func TestFirstPacket(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*hunt)
		status Status
		found  string
	}{
		{"good", func(*hunt) {}, OK, "the kernel named the sender, in write, and stopped it: strace was attached 1.0 ms after the packet"},
		{"refused", func(h *hunt) {
			h.err = errEnded
			h.log = []string{"culprit: sensor: rule: iptables is of the legacy flavour: choose another way, or auto"}
		}, NotHere, "iptables is of the legacy flavour"},
		{"cannot stop", func(h *hunt) {
			h.log = []string{`msg="the kernel says who sends a packet" sensor=rule freeze=false`}
			h.traces = nil
		}, OK, "in this way it cannot stop it here"},
		{"broken", func(h *hunt) { h.err = errors.New("no namespace") }, Failed, "no namespace"},
		{"interrupted", func(h *hunt) { h.queries = nil }, Skipped, "no packet was sent"},
		{"no match", func(h *hunt) { h.hits = nil }, Failed, "did not match"},
		{"another named", func(h *hunt) { h.hit(h.queries[0]).Process.PID++ }, Failed, "the kernel did not name the sender"},
		{"not by the kernel", func(h *hunt) { h.hit(h.queries[0]).Culprit.Sent = nil }, Failed, "did not name"},
		{"not traced", func(h *hunt) { h.traces = nil }, Failed, "not traced"},
		{"too late", func(h *hunt) {
			for i := range h.traces {
				h.traces[i].Culprit.FromPacket = false
			}
		}, Failed, "only after it had gone on"},
		{"not proven", func(h *hunt) { h.proofs = nil }, Failed, "no line of its trace"},
		{"a rule stays", func(h *hunt) { h.leftover = map[string][]string{"ipv4": {"-A OUTPUT"}} }, Failed, "left behind: -A OUTPUT"},
		{"hangs", func(h *hunt) { h.stopErr = errors.New("killed") }, Failed, "killed"},
	} {
		h := goodFirst()
		tt.change(h)
		checks := h.checks()
		if c := checks[0]; len(checks) != 1 || c.Name != "first packet, rule" || c.Status != tt.status || !strings.Contains(c.Found, tt.found) || (c.Remedy == "") != (c.Status != Failed) {
			t.Errorf("%s: %+v", tt.name, checks)
		}
	}
}
