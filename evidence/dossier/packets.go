package dossier

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier/pcapng"
	"culprit/internal/event"
)

// Packets writes the packets of a capture's hits as pcapng. The comment of each packet gives its
// rule, user, process, trace file and proof.
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

// Packet writes the packet of one hit as pcapng.
func Packet(w io.Writer, h *event.Hit) error {
	one := func(yield func(event.Hit, error) bool) { yield(*h, nil) }
	_, err := pcapng.Write(w, one, func(h *event.Hit) string {
		if h.Culprit.Proof == nil {
			return pcapng.Comment(h, nil, "")
		}
		return pcapng.Comment(h, &event.Proof{Culprit: *h.Culprit.Proof}, "")
	}, pcapng.Info{Comment: "culprit hit " + h.Event.ID})
	return err
}

// A Packer writes the packets files of captures in the background: a file with many hits takes a
// while, and neither the writing of the catalogue nor the end of culprit waits for it.
type Packer struct {
	dir    *directory.Directory
	reader *catalogue.Reader
	log    *slog.Logger
	due    chan event.Capture
	done   chan struct{} // closed when all files are written
}

// maxDue bounds the captures whose packets files wait to be written. Packets without such a file
// are in the catalogue, and in an export.
const maxDue = 1000

// NewPacker starts a Packer. The caller closes it.
func NewPacker(d *directory.Directory, r *catalogue.Reader, log *slog.Logger) *Packer {
	p := &Packer{dir: d, reader: r, log: log, due: make(chan event.Capture, maxDue), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for c := range p.due {
			if err := p.write(&c); err != nil {
				p.failed(&c, err)
			}
		}
	}()
	return p
}

func (p *Packer) failed(c *event.Capture, err error) {
	p.log.Error("the packets of a capture are only in the catalogue", "capture", c.Event.ID, "error", err)
}

// Pack has the packets file of a capture written, and does not wait for it.
func (p *Packer) Pack(c event.Capture) {
	select {
	case p.due <- c:
	default:
		p.failed(&c, errors.New("the packets of too many captures wait"))
	}
}

// Close waits until all files are written. Pack must not be called after it.
func (p *Packer) Close() {
	close(p.due)
	<-p.done
}

// write writes the packets file of a capture, or replaces it.
func (p *Packer) write(c *event.Capture) error {
	dir := filepath.Join(directory.Traces, c.Event.ID)
	err := p.dir.Root().MkdirAll(dir, 0o700)
	if err == nil {
		err = p.dir.Put(filepath.Join(dir, directory.Packets), ".tmp", func(w io.Writer) error {
			_, err := Packets(p.reader, w, c)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	return nil
}
