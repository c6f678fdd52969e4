package evidence

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"culprit/evidence/pcapng"
	"culprit/internal/event"
)

// packetsName is the file of a capture's packets, beside its traces.
const packetsName = "packets.pcapng"

// Packets writes the packets of a capture's hits as pcapng, each with a comment that
// names rule, user, process, trace file and proof.
func (r *Reader) Packets(w io.Writer, c *event.Capture) (pcapng.Summary, error) {
	of := Filter{Capture: c.Event.ID}
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

// writePackets makes, or makes anew, the packets file of a capture.
func (s *Store) writePackets(c *event.Capture) error {
	dir := filepath.Join(tracesDir, c.Event.ID)
	if err := s.dir.root.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	name, unfinished := filepath.Join(dir, packetsName), filepath.Join(dir, packetsName+".tmp")
	s.dir.root.Remove(unfinished) // of a culprit that was killed
	f, err := s.dir.root.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	_, err = (&Reader{db: s.db, dir: s.dir.Path()}).Packets(f, c)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = s.dir.root.Rename(unfinished, name)
	}
	if err != nil {
		s.dir.root.Remove(unfinished)
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	return nil
}
