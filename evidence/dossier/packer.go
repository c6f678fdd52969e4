package dossier

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/internal/event"
)

// A Packer makes the packets files of captures beside all else: with many hits one takes
// a while, and neither the catalogue nor the end of culprit waits for that.
type Packer struct {
	dir    *directory.Directory
	reader *catalogue.Reader
	log    *slog.Logger
	due    chan event.Capture
	done   chan struct{} // closed when all is written
}

// maxDue bounds the captures whose packets wait to be written. What is not done is in the
// catalogue, and in an export.
const maxDue = 1000

// NewPacker begins to pack. The caller closes the Packer.
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

// Pack has the packets of a capture written. It does not wait for that.
func (p *Packer) Pack(c event.Capture) {
	select {
	case p.due <- c:
	default:
		p.failed(&c, errors.New("those of too many captures wait"))
	}
}

// Close waits for what is due. Nothing may be packed then.
func (p *Packer) Close() {
	close(p.due)
	<-p.done
}

// write makes, or makes anew, the packets file of a capture.
func (p *Packer) write(c *event.Capture) error {
	root, dir := p.dir.Root(), filepath.Join(directory.Traces, c.Event.ID)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	name, unfinished := filepath.Join(dir, directory.Packets), filepath.Join(dir, directory.Packets+".tmp")
	root.Remove(unfinished) // of a culprit that was killed
	f, err := root.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	_, err = Packets(p.reader, f, c)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = root.Rename(unfinished, name)
	}
	if err != nil {
		root.Remove(unfinished)
		return fmt.Errorf("write the packets of a capture: %w", err)
	}
	return nil
}
