package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
)

// hitPackets sends the packet of a hit.
func (s *Server) hitPackets(w http.ResponseWriter, r *http.Request, id string) {
	b, err := s.make(r.Context(), func(reader *catalogue.Reader) ([]byte, error) {
		h, err := find(reader, id, aHit())
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = dossier.Packet(&b, h)
		return b.Bytes(), err
	})
	if err != nil {
		s.send(w, nil, err)
		return
	}
	s.download(w, r, "culprit-"+strings.ToLower(id)+".pcapng", bytes.NewReader(b))
}

// capturePackets sends the packets of a capture.
func (s *Server) capturePackets(w http.ResponseWriter, r *http.Request, id string) {
	s.spooled(w, r, id, func(*event.Capture) string { return "culprit-" + strings.ToLower(id) + ".pcapng" },
		func(reader *catalogue.Reader, to io.Writer, c *event.Capture) error {
			_, err := dossier.Packets(reader, to, c)
			return err
		})
}

// bundle sends what `culprit export` writes.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request, id string) {
	s.spooled(w, r, id, dossier.ExportName, func(reader *catalogue.Reader, to io.Writer, c *event.Capture) error {
		_, _, err := dossier.Export(reader, to, c)
		return err
	})
}

// spoolTimeout bounds how long the file of a large capture is being made.
const spoolTimeout = 10 * time.Minute

// spooled sends a file that is made of a capture: into a file without a name first, so that a slow reader
// does not hold up the catalogue.
func (s *Server) spooled(w http.ResponseWriter, r *http.Request, id string, name func(*event.Capture) string, write func(*catalogue.Reader, io.Writer, *event.Capture) error) {
	select {
	case s.spooling <- struct{}{}:
		defer func() { <-s.spooling }()
	default:
		s.send(w, nil, wrong(http.StatusServiceUnavailable, "another large file is being made or sent: try again when that is done"))
		return
	}
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(spoolTimeout))
	control.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), spoolTimeout)
	defer cancel()
	f, c, err := s.spool(ctx, id, write)
	if err != nil {
		s.send(w, nil, err)
		return
	}
	defer f.Close()
	s.download(w, r, name(c), f)
}

func (s *Server) spool(ctx context.Context, id string, write func(*catalogue.Reader, io.Writer, *event.Capture) error) (*os.File, *event.Capture, error) {
	reader, err := catalogue.OpenReader(s.dir)
	if err != nil {
		return nil, nil, problem{http.StatusServiceUnavailable, err}
	}
	defer reader.Close()
	reader = reader.Within(ctx)
	c, err := find(reader, id, aCapture())
	if err != nil {
		return nil, nil, err
	}
	f, err := os.CreateTemp("", "culprit-serve-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a file to send: %w", err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		err = write(reader, f, c)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("make a file to send: %w", err)
	}
	return f, c, nil
}

// traceFile sends a trace, uncompressed.
func (s *Server) traceFile(w http.ResponseWriter, r *http.Request, id string) {
	t, err := s.traceOf(r.Context(), id)
	if err != nil {
		s.send(w, nil, err)
		return
	}
	f, err := tracefile.Open(t.File.Path)
	if err != nil {
		s.send(w, nil, s.noTrace(r.Context(), err, t.File.Path))
		return
	}
	defer f.Close()
	s.download(w, r, filepath.Base(t.File.Path), f)
}

// traceOf finds a trace whose file is there.
func (s *Server) traceOf(ctx context.Context, id string) (t *event.Trace, err error) {
	_, err = s.make(ctx, func(reader *catalogue.Reader) ([]byte, error) {
		t, err = find(reader.WithoutProofs(), id, aTrace())
		return nil, err
	})
	return t, err
}

// noTrace says that the file of a trace is gone, or, in a fleet, on its host.
func (s *Server) noTrace(ctx context.Context, err error, name string) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, failed := s.make(ctx, func(r *catalogue.Reader) ([]byte, error) {
		if fleet, err := isFleet(r); err != nil || !fleet {
			return nil, err
		}
		return nil, wrong(http.StatusGone, "the trace is on its host. Type: culprit fleet fetch %s", filepath.Base(filepath.Dir(name)))
	})
	if failed != nil {
		return failed
	}
	return problem{http.StatusGone, err}
}

// download sends a file as long as its reader takes some of it from time to time.
func (s *Server) download(w http.ResponseWriter, r *http.Request, name string, from io.Reader) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{})
	if r.Method == http.MethodHead {
		return
	}
	piece := make([]byte, 256<<10)
	for {
		n, err := from.Read(piece)
		control.SetWriteDeadline(time.Now().Add(stallTimeout))
		if _, sent := w.Write(piece[:n]); sent != nil || err == io.EOF {
			return
		}
		if err != nil {
			s.log.Debug("a download broke off", "file", name, "error", err)
			panic(http.ErrAbortHandler) // so that its reader does not take it for whole
		}
	}
}
