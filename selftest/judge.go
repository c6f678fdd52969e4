package selftest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// judge makes checks from the outcome of the hunts.
func judge(hunts []*hunt) (checks []Check) {
	if !slices.ContainsFunc(hunts, func(h *hunt) bool { return h.backend.own }) {
		checks = append(checks, failed("install the package iptables", "there is no iptables").named("iptables"))
	}
	for _, h := range hunts {
		checks = append(checks, h.checks()...)
	}
	return checks
}

// checks returns the checks of the rules and, for a full hunt, all others.
func (h *hunt) checks() (checks []Check) {
	if h.sensor != "" {
		return []Check{h.firstPacket().named("first packet, " + string(h.sensor))}
	}
	if h.elsewhere {
		return []Check{h.otherNamespace().named("other namespaces")}
	}
	if h.err != nil {
		checks = append(checks, failed(seeLog, "%v", h.err).named("hunt, "+h.backend.name))
	}
	checks = append(checks,
		h.rules("ipv4").named("rules, "+h.backend.name+", IPv4"),
		h.rules("ipv6").named("rules, "+h.backend.name+", IPv6"))
	if !h.full {
		return checks
	}
	return append(checks,
		h.latency().named("hit latency"),
		h.users().named("user"),
		h.attach().named("attach"),
		h.gates().named("gate"),
		h.proven().named("proof"),
		h.lost().named("losses"),
		h.stop().named("stop"),
		h.memoryUsed().named("memory"))
}

func (c Check) named(name string) Check {
	c.Name = name
	return c
}

const (
	seeDoctor = "see what `culprit doctor` says"
	seeLog    = "see the log below, and what `culprit doctor` says"
	report    = "please report it, with all of this"
)

func ok(values map[string]float64, found string, args ...any) Check {
	return Check{Status: OK, Found: fmt.Sprintf(found, args...), Values: values}
}

func failed(remedy, found string, args ...any) Check {
	return Check{Status: Failed, Found: fmt.Sprintf(found, args...), Remedy: remedy}
}

// skipped is the result of a check that has nothing to look at.
func skipped(why string) Check { return Check{Status: Skipped, Found: why} }

// rules checks whether the rules of a family match, and are removed again.
func (h *hunt) rules(family string) Check {
	absent := h.backend.absent[family]
	if family == "ipv6" {
		absent = cmp.Or(absent, h.noIPv6)
	}
	if absent != "" {
		return Check{Status: NotHere, Found: absent}
	}
	var count, matched int
	for _, q := range h.queries {
		if q.family == family {
			count++
			if h.hit(q) != nil {
				matched++
			}
		}
	}
	switch {
	case count == 0:
		return skipped("no packet was sent")
	case matched < count:
		return failed(seeDoctor+" about rules", "only %[2]d of %[1]s matched", text.Plural(count, "packet"), matched)
	case h.saveErr[family] != nil:
		return failed(report, "cannot tell what is left behind: %v", h.saveErr[family])
	case len(h.leftover[family]) > 0:
		return failed(report, "left behind: %s", strings.Join(h.leftover[family], "; "))
	}
	return ok(values("ready", h.ready), "%d of %d packets matched (udp, tcp); ready after %s; nothing left behind", matched, count, ms(h.ready))
}

// latency measures the time from just before a query is sent until the daemon has its packet.
func (h *hunt) latency() Check {
	var all []time.Duration
	for i := range h.hits {
		if at, ok := sentAt(&h.hits[i]); ok {
			all = append(all, h.hits[i].Timestamp.Sub(at))
		}
	}
	if len(all) == 0 {
		return skipped("no packet was seen")
	}
	return ok(quantiles(all), "median %s, at most %s, from sending a packet to recording the hit", ms(median(all)), ms(slices.Max(all)))
}

// sentAt returns when the packet of a hit was sent.
func sentAt(hit *event.Hit) (time.Time, bool) {
	if hit.DNS == nil {
		return time.Time{}, false
	}
	at, _, ok := parseName(hit.DNS.Question.Name)
	return at, ok
}

func (h *hunt) users() Check {
	if len(h.hits) == 0 {
		return skipped("no packet was seen")
	}
	known := 0
	for _, hit := range h.hits {
		if hit.User != nil && hit.User.UID() == h.uid {
			known++
		}
	}
	if known < len(h.hits) {
		return failed(report, "only %[2]d of %[1]s have the user that sent the packet", text.Plural(len(h.hits), "hit"), known)
	}
	return ok(nil, "%d of %d hits have the user that sent the packet", known, len(h.hits))
}

// attach checks the first sender, which ran before anything was traced.
func (h *hunt) attach() Check {
	hit := h.hit(h.first)
	if hit == nil {
		return skipped("no packet was seen")
	}
	for i := range h.traces {
		t := &h.traces[i]
		if hit.Process == nil || t.Process.EntityID != hit.Process.EntityID {
			continue
		}
		at, _ := sentAt(hit)
		attaching := milliseconds(t.Culprit.AttachMS)
		took := t.Timestamp.Add(attaching).Sub(at)
		v := values("attach", attaching)
		v["from_packet_ms"] = inMS(took)
		return ok(v, "strace attached to the first sender %s after its packet, %s after finding it", ms(took), ms(attaching))
	}
	if hit.Process == nil {
		return failed(seeDoctor+" about socket diagnostics", "the first sender still holds its socket, but was not found: %s", words.Unattributed(&hit.Culprit.Origin))
	}
	return failed(seeDoctor+" about ptrace and attaching", "strace did not attach to the first sender within %v", patience)
}

// gates counts the programs that were held until strace was attached.
func (h *hunt) gates() Check {
	if h.hit(h.first) == nil {
		return skipped("no packet was seen")
	}
	switch h.gate {
	case "":
		return failed(seeLog, "no gate within %v", patience)
	case "no gate", "the gate failed":
		return failed(seeDoctor+" about the gate: without it traces begin some milliseconds after a program's start", "%s", h.gate)
	}
	if len(h.queries) == 0 { // it was interrupted before the first one
		return skipped("no program was started")
	}
	var holds []time.Duration
	pids := map[int]bool{}
	for _, q := range h.queries {
		pids[q.pid] = true
	}
	for i := range h.traces {
		if t := &h.traces[i]; t.Culprit.FromStart && pids[t.Process.PID] {
			holds = append(holds, milliseconds(t.Culprit.AttachMS))
		}
	}
	if len(holds) < len(h.queries) {
		return failed(seeLog, "only %[2]d of %[1]s were traced from their start", text.Plural(len(h.queries), "program"), len(holds))
	}
	c := ok(quantiles(holds), "%d of %d programs traced from their start, held for a median of %s, at most %s", len(holds), len(h.queries), ms(median(holds)), ms(slices.Max(holds)))
	usual := config.Default().Capture.GateDeadline
	if slices.Max(holds) > usual {
		c.Found += fmt.Sprintf("; longer than capture.gate_deadline (%v by default): is the machine very busy?", usual)
	}
	return c
}

// proven counts the packets whose sending line was found.
func (h *hunt) proven() Check {
	var times []time.Duration
	seen := 0
	for _, q := range h.queries {
		hit := h.hit(q)
		if hit == nil {
			continue
		}
		seen++
		p := h.proof(hit)
		if p == nil || p.Culprit.Probable {
			continue
		}
		at, _ := sentAt(hit)
		if id, err := ulid.ParseStrict(p.Event.ID); err == nil { // which holds the time when it was made
			times = append(times, max(0, ulid.Time(id.Time()).Sub(at)))
		}
	}
	switch {
	case seen == 0:
		return skipped("no packet was seen")
	case len(times) < seen:
		return failed("if everything above is ok, "+report, "only %[2]d of %[1]s are proven", text.Plural(seen, "hit"), len(times))
	}
	return ok(quantiles(times), "%d of %d hits proven by the trace line that sent the packet, found a median of %s later", len(times), seen, ms(median(times)))
}

func (h *hunt) lost() Check {
	var lost []string
	for _, l := range h.losses {
		lost = append(lost, fmt.Sprintf("%s (%d)", words.Loss(l.Culprit), l.Culprit.Count))
	}
	if lost != nil {
		return failed(seeLog, "%s", strings.Join(lost, ", "))
	}
	if len(h.hits) == 0 {
		return skipped("no packet was seen")
	}
	return ok(nil, "none")
}

func (h *hunt) stop() Check {
	switch {
	case h.ready == 0:
		return skipped("the daemon was never ready")
	case h.stopErr != nil:
		return failed(seeLog, "the daemon did not stop cleanly: %v", h.stopErr)
	case len(h.straces) > 0:
		return failed(report, "straces outlived the daemon: %v", h.straces)
	case h.stayed != "":
		return failed(report, "%s", h.stayed)
	}
	return ok(values("stop", h.stopped), "all straces gone after %s; the traced processes live on", ms(h.stopped))
}

func (h *hunt) memoryUsed() Check {
	if h.ready == 0 || h.memory == 0 {
		return skipped("the daemon was gone")
	}
	return ok(map[string]float64{"peak_bytes": float64(h.memory)}, "the daemon took %s at most", text.Size(h.memory))
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// quantiles returns the quantiles of durations by name.
func quantiles(all []time.Duration) map[string]float64 {
	v := values("p50", median(all))
	v["max_ms"] = inMS(slices.Max(all))
	v["count"] = float64(len(all))
	return v
}

func values(name string, d time.Duration) map[string]float64 {
	return map[string]float64{name + "_ms": inMS(d)}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ms writes a duration for people: "3.4 ms", "120 ms".
func ms(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", inMS(d))
	}
	return fmt.Sprintf("%.0f ms", inMS(d))
}
