package dossier

import (
	"fmt"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// Unproven says why a hit has no certain proof. It returns "" if the hit has one.
func Unproven(r *catalogue.Reader, h *event.Hit) (string, error) {
	if h.Culprit.Proof != nil || h.Culprit.Capture == nil {
		return unproven(h, nil, nil, time.Time{}), nil
	}
	of := catalogue.Filter{Capture: h.Culprit.Capture.ID}
	traces, err := catalogue.All(r.Traces(of))
	if err != nil {
		return "", err
	}
	programs, err := catalogue.All(r.Programs(of))
	return unproven(h, traces, programs, provenUntil(r, time.Now())), err
}

// proofTakes is how long a proof can take: a hit waits for the line that fits best.
const proofTakes = 3 * time.Second

// provenUntil returns now if a daemon runs that may still be proving new hits. Otherwise it returns
// the zero Time: no hit is too new, and the same evidence says the same whatever the clock says.
func provenUntil(r *catalogue.Reader, now time.Time) time.Time {
	if !r.DaemonRuns() {
		return time.Time{}
	}
	return now
}

// unproven is Unproven for a hit whose capture has these traces and programs; until is that of
// [provenUntil].
func unproven(h *event.Hit, traces []event.Trace, programs []event.Program, until time.Time) string {
	switch {
	case h.Culprit.Proof != nil && h.Culprit.Proof.Probable:
		return "the trace or the packet holds only part of the bytes, see capture.levels strings and nflog.snaplen"
	case h.Culprit.Proof != nil:
		return ""
	case h.Culprit.Capture == nil:
		return words.NoCapture(h.Culprit.NoCapture)
	case until.Sub(h.Timestamp).Abs() < proofTakes: // the clock may have been set back since
		return "not yet: the packet is so new that the traces are still being read"
	}
	running := 0
	for i := range traces {
		t := &traces[i]
		if h.Process != nil && t.Process.EntityID == h.Process.EntityID {
			return whyNot(t, h)
		}
		if attachedAt(t).Before(sentAt(h)) && (t.Event.End == nil || t.Event.End.After(sentAt(h))) {
			running++
		}
	}
	switch {
	case h.Process != nil:
		return notTraced(h.Process, programs)
	case running == 0:
		return "no process was traced yet when the packet was sent"
	}
	return fmt.Sprintf("its process was not traced, or too late: these bytes are not in what was traced then (%s)", text.Plural(running, "trace"))
}

// notTraced says why a process that held the socket has no trace.
func notTraced(its *event.Process, programs []event.Program) string {
	for i := range programs {
		p := &programs[i]
		switch {
		case p.Process.EntityID != its.EntityID:
		case p.Culprit.Reason != nil:
			return fmt.Sprintf("process %d was not traced: %s", its.PID, words.Untraced(*p.Culprit.Reason))
		case p.Culprit.Traced:
			return fmt.Sprintf("process %d was traced with its parent, but no line of the traces has these bytes", its.PID)
		}
	}
	return fmt.Sprintf("process %d was not traced", its.PID)
}

// sentAt returns when the packet was sent, as well as we know.
func sentAt(h *event.Hit) time.Time {
	if s := h.Culprit.Sent; s != nil {
		return s.Timestamp
	}
	return h.Timestamp
}

// attachedAt returns when strace was on the process.
func attachedAt(t *event.Trace) time.Time {
	return t.Timestamp.Add(time.Duration(t.Culprit.AttachMS * float64(time.Millisecond)))
}

// whyNot says why the trace of the process that the hit names proves nothing.
func whyNot(t *event.Trace, h *event.Hit) string {
	at, sent := attachedAt(t), sentAt(h)
	switch {
	case t.Culprit.FromPacket && h.Culprit.Sent != nil && t.Culprit.Hit != nil && t.Culprit.Hit.ID == h.Event.ID:
		return fmt.Sprintf("the kernel saw %s send the packet, and stopped process %d there until strace was on it: its trace begins right after the packet", words.Sent(h), t.Process.PID)
	case !at.Before(sent):
		if t.User.ID == "0" {
			return fmt.Sprintf("strace attached to process %d %s after it sent the packet: root is captured by process, each from its first hit on", t.Process.PID, at.Sub(sent).Round(time.Millisecond))
		}
		return fmt.Sprintf("strace attached to process %d %s after it sent the packet", t.Process.PID, at.Sub(sent).Round(time.Millisecond))
	case t.Event.End != nil && t.Event.End.Before(sent):
		return fmt.Sprintf("the trace of process %d had ended by then: %s", t.Process.PID, words.TraceEnded(t.Culprit.EndedBecause))
	case t.Culprit.Lost > 0:
		return fmt.Sprintf("the trace of process %d has lost %d bytes", t.Process.PID, t.Culprit.Lost)
	case h.Culprit.Sent != nil:
		return fmt.Sprintf("process %d was traced, and the kernel saw %s of it, but its trace has no such call for that time, or one that shows other bytes: see capture.levels syscalls", t.Process.PID, words.Sent(h))
	}
	return fmt.Sprintf("process %d was traced, but no line of its trace has these bytes: some calls do not show them (io_uring), or another process has the socket as well", t.Process.PID)
}
