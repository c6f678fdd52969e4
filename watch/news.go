package watch

import (
	"fmt"
	"time"

	"culprit/evidence/directory"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// notify reports something new: when it happened, of which kind it is, and what it is, not yet
// escaped.
type notify func(at time.Time, kind, what string)

func hitLine(h *event.Hit) string {
	capture := "no capture: " + words.NoCapture(h.Culprit.NoCapture)
	if h.Culprit.Capture != nil {
		capture = "capture " + h.Culprit.Capture.ID
	}
	asks := h.Asks()
	if entry := h.Entry(); entry != "" {
		asks += ", on " + clip(entry) + ","
	}
	return fmt.Sprintf("%s rule %s, user %s, %s %s > %s asks %s, from %s, %s", h.Event.ID, h.Rule.Name, h.User,
		h.Network.Transport, h.Source, h.Destination, asks, clip(words.Sender(h)), capture)
}

func proofLine(p *event.Proof) string {
	return fmt.Sprintf("%s sent by %s: %s of %s", p.Culprit.Hit.ID, clip(p.Process.String()), words.Proof(&p.Culprit), p.File.Path)
}

func captureLine(c *event.Capture) string {
	d := &c.Culprit
	s := fmt.Sprintf("%s user %s, level %d, %s, %s, %s", c.Event.ID, &c.User, d.Level,
		text.Plural(d.Hits, "hit"), text.Plural(d.Traces, "trace"), d.State)
	if d.EndedBecause != nil {
		s += ": " + words.CaptureEnded(d.EndedBecause)
	}
	return s
}

func traceLine(t *event.Trace) string {
	s := fmt.Sprintf("%s %s, %s", t.Event.ID, clip(t.Process.String()), words.TraceState(t))
	if t.Culprit.State == event.StateRunning {
		return fmt.Sprintf("%s %s: %s", s, t.Culprit.Life(), t.File.Path)
	}
	return fmt.Sprintf("%s, %s: %s", s, text.Size(t.File.Size), t.File.Path)
}

// daemonState says for people whether a culprit runs with the evidence in dir.
func daemonState(dir string) string {
	switch pid, err := directory.Holder(dir); {
	case err != nil:
		return "cannot tell whether culprit is running: " + err.Error()
	case pid == 0:
		return "culprit is not running"
	default:
		return fmt.Sprintf("culprit is running (PID %d)", pid)
	}
}

// clip shortens foreign text.
func clip(s string) string {
	const most = 48
	return text.Clip(s, most)
}
