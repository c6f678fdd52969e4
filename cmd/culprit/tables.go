package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func newLosses(from source) *cobra.Command {
	return newList(from, "losses", "List what was not seen or not kept, newest last",
		"TIME\tCOUNT\tWHAT",
		(*catalogue.Reader).Losses, func(l *event.Loss) []string {
			return []string{text.Time(l.Timestamp), strconv.FormatUint(l.Culprit.Count, 10), words.Loss(l.Culprit)}
		}, func(v *event.Loss) *event.Host { return v.Host })
}

func newHits(from source) *cobra.Command {
	return newList(from, "hits", "List the packets that matched, newest last",
		"TIME\tHIT\tRULE\tUSER\tCONTAINER\tPACKET\tASKS\tORIGIN\tPROOF\tCOUNT\tCAPTURE",
		(*catalogue.Reader).Hits, func(h *event.Hit) []string {
			capture := "none: " + words.NoCapture(h.Culprit.NoCapture)
			switch from := h.Culprit.ForwardedFrom; {
			case h.Culprit.Capture != nil:
				capture = h.Culprit.Capture.ID
			case from != nil:
				capture = "none: sent on for hit " + from.ID
			}
			asks := h.Asks()
			if entry := h.Entry(); entry != "" {
				asks += ", on " + clip(entry)
			}
			return []string{
				text.Time(h.Timestamp), h.Event.ID, h.Rule.Name, h.User.String(), clip(words.Place(&h.Place)),
				fmt.Sprintf("%s %s > %s", h.Network.Transport, h.Source, h.Destination), asks,
				clip(words.Sender(h)), words.Proof(h.Culprit.Proof), strconv.Itoa(h.Culprit.Count), capture,
			}
		}, func(v *event.Hit) *event.Host { return v.Host })
}

// clip shortens a text for a cell of a table.
func clip(s string) string {
	const most = 48
	return text.Clip(s, most)
}

func newCaptures(from source) *cobra.Command {
	return newList(from, "captures", "List the captures, newest last",
		"STARTED\tCAPTURE\tUSER\tRULE\tSCOPE\tLEVEL\tHITS\tTRACES\tMISSED\tSTATE",
		(*catalogue.Reader).Captures, func(c *event.Capture) []string {
			d := &c.Culprit
			rule, missed := "-", 0
			if c.Rule != nil {
				rule = c.Rule.Name
			}
			for _, n := range d.Missed {
				missed += n
			}
			state := d.State
			if d.EndedBecause != nil {
				state += ": " + words.CaptureEnded(d.EndedBecause)
			}
			return []string{
				text.Time(c.Timestamp), c.Event.ID, c.Whose(), rule, d.Scope,
				strconv.Itoa(d.Level), strconv.Itoa(d.Hits), strconv.Itoa(d.Traces), strconv.Itoa(missed), state,
			}
		}, func(v *event.Capture) *event.Host { return v.Host })
}

func newTraces(from source) *cobra.Command {
	return newList(from, "traces", "List the traces, newest last",
		"STARTED\tTRACE\tUSER\tCONTAINER\tPROCESS\tFOUND BY\tLIFE\tSIZE\tSTATE\tHIT\tFILE",
		(*catalogue.Reader).Traces, func(t *event.Trace) []string {
			d := &t.Culprit
			state, hit := d.State, "-"
			if d.EndedBecause != nil {
				state += ": " + words.TraceEnded(d.EndedBecause)
			}
			if d.Hit != nil {
				hit = d.Hit.ID
			}
			return []string{
				text.Time(t.Timestamp), t.Event.ID, t.User.String(), clip(words.Place(&t.Place)), clip(t.Process.String()),
				d.FoundBy, d.Life(), text.Size(t.File.Size), state, hit, t.File.Path,
			}
		}, func(v *event.Trace) *event.Host { return v.Host })
}
