package selftest

import (
	"errors"
	"strings"
	"testing"

	"culprit/internal/event"
)

func TestOtherNamespace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*hunt)
		status Status
		found  string
	}{
		{"good", func(*hunt) {}, OK, "without rules the kernel named the sender, in write, and stopped it: strace was attached 1.0 ms after the packet"},
		{"an old kernel", func(h *hunt) {
			h.err = errEnded
			h.log = []string{"culprit: namespaces: the packets of other network namespaces cannot be seen: there is no BTF: set namespaces: host"}
		}, NotHere, "there is no BTF"},
		{"cannot stop", func(h *hunt) {
			h.log = []string{`msg="packets of other network namespaces are seen" namespaces=[all] freeze=false`}
			h.traces = nil
		}, OK, "in this way it cannot stop it here"},
		{"broken", func(h *hunt) { h.err = errors.New("no namespace") }, Failed, "no namespace"},
		{"interrupted", func(h *hunt) { h.queries = nil }, Skipped, "no packet was sent"},
		{"not seen", func(h *hunt) { h.hits = nil }, Failed, "was not seen"},
		{"of another namespace", func(h *hunt) { h.netns++ }, Failed, "the hit says"},
		{"of none", func(h *hunt) { h.hit(h.queries[0]).Culprit.Netns = nil }, Failed, "the hit says"},
		{"another named", func(h *hunt) { h.hit(h.queries[0]).Process.PID++ }, Failed, "did not name the sender"},
		{"not traced", func(h *hunt) { h.traces = nil }, Failed, "not traced"},
		{"not proven", func(h *hunt) { h.proofs = nil }, Failed, "no line of its trace"},
		{"hangs", func(h *hunt) { h.stopErr = errors.New("killed") }, Failed, "killed"},
	} {
		h := goodFirst()
		h.sensor, h.elsewhere, h.netns = "", true, 4026532001
		h.log = []string{`msg="packets of other network namespaces are seen" namespaces=[all] freeze=true`}
		h.hit(h.queries[0]).Culprit.Netns = &event.Namespace{Inode: 4026532001}
		tt.change(h)
		checks := h.checks()
		if c := checks[0]; len(checks) != 1 || c.Name != "other namespaces" || c.Status != tt.status || !strings.Contains(c.Found, tt.found) || (c.Remedy == "") != (c.Status != Failed) {
			t.Errorf("%s: %+v", tt.name, checks)
		}
	}
}
