package dossier

import (
	"io"
	"path/filepath"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier/pcapng"
	"culprit/internal/event"
)

// Packets writes the packets of a capture's hits as pcapng, each with a comment that
// names rule, user, process, trace file and proof.
func Packets(r *catalogue.Reader, w io.Writer, c *event.Capture) (pcapng.Summary, error) {
	of := catalogue.Filter{Capture: c.Event.ID, NoProofs: true}
	files := map[string]string{} // by the trace's id
	for t, err := range r.Traces(of) {
		if err != nil {
			return pcapng.Summary{}, err
		}
		files[t.Event.ID] = filepath.Base(t.File.Path)
	}
	info := pcapng.Info{Comment: "culprit capture " + c.Event.ID}
	if c.Observer != nil {
		info.Version = c.Observer.Version
	}
	if c.Host != nil {
		info.Kernel = c.Host.OS.Kernel
	}
	return pcapng.Write(w, r.Hits(of), func(h *event.Hit) string {
		if h.Culprit.Proof == nil {
			return pcapng.Comment(h, nil, "")
		}
		return pcapng.Comment(h, &event.Proof{Culprit: *h.Culprit.Proof}, files[h.Culprit.Proof.Trace.ID])
	}, info)
}
