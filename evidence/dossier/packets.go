package evidence

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"culprit/evidence/dossier/pcapng"
	"culprit/internal/event"
)

// packetsName is the file of a capture's packets, beside its traces.
const packetsName = "packets.pcapng"

// Packets writes the packets of a capture's hits as pcapng, each with a comment that
// names rule, user, process, trace file and proof.
func (r *Reader) Packets(w io.Writer, c *event.Capture) (pcapng.Summary, error) {
	of := Filter{Capture: c.Event.ID, proofless: true}
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

// A packer makes the packets files of captures beside all else: with many hits one takes
// a while, and neither the catalogue nor the end of culprit waits for that.
type packer struct {
	due  chan event.Capture
	done chan struct{}
}

// maxDue bounds the captures whose packets wait to be written, and packsLonger how long
// that may take when culprit ends. What is not done is in the catalogue, and in an export.
const (
	maxDue      = 1000
	packsLonger = 3 * time.Second
)

func newPacker(s *Store) *packer {
	p := &packer{due: make(chan event.Capture, maxDue), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for c := range p.due {
			if err := s.writePackets(&c); err != nil {
				s.notPacked(&c, err)
			}
		}
	}()
	return p
}

func (s *Store) notPacked(c *event.Capture, err error) {
	s.log.Error("the packets of a capture are only in the catalogue", "capture", c.Event.ID, "error", err)
}

// pack has the packets of a capture written.
func (s *Store) pack(c event.Capture) {
	select {
	case s.packer.due <- c:
	default:
		s.notPacked(&c, errors.New("those of too many captures wait"))
	}
}

// close waits for what is due; if somebody waits for us, not for too long. Nothing may be
// packed then.
func (p *packer) close(reading *sql.DB, hurry bool) {
	close(p.due)
	if hurry { // a closed data base ends what is being read
		defer time.AfterFunc(packsLonger, func() { reading.Close() }).Stop()
	}
	<-p.done
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
	_, err = (&Reader{db: s.reading, dir: s.dir.Path()}).Packets(f, c)
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
