package serve

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"culprit/evidence/catalogue"
)

const (
	lookEvery  = 300 * time.Millisecond
	signOfLife = 15 * time.Second // between two signs that the connection is there
	mostProofs = 50               // of one look
)

// events tells a page of hits as they come (server-sent events), and of rows that have changed. Each
// reader has a loop of its own that reads what is new, closes the catalogue and only then writes: one that
// does not read in time is cut off, and its browser comes again with the number of the last arrival that it was told of.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		q.Set("after", id)
	}
	f, err := filterOf(q, time.Now())
	if err != nil {
		s.send(w, nil, err)
		return
	}
	select {
	case s.live <- struct{}{}:
		defer func() { <-s.live }()
	default:
		s.send(w, nil, wrong(http.StatusServiceUnavailable, "too many pages are open"))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	n := &news{s: s, filter: f}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{}) // it ends when its reader does
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var told time.Time
	for {
		b, err := s.make(r.Context(), n.look)
		if err != nil {
			return // the browser tries again
		}
		if now := time.Now(); len(b) > 0 || now.Sub(told) > signOfLife {
			told = now
			control.SetWriteDeadline(now.Add(requestTimeout))
			if _, err := w.Write(append(b, ":\n\n"...)); err != nil || control.Flush() != nil {
				return
			}
		}
		select {
		case <-look.C:
		case <-r.Context().Done():
			return
		case <-s.stop:
			return
		}
	}
}

// news is what one page was told.
type news struct {
	s      *Server
	filter catalogue.Filter // Arrived.After is the last arrival that it was told of; 0: none
	was    status
}

// look returns what has changed since the last look, as events. It goes by what arrived: in a fleet the clock of a host
// may be wrong, and an earlier hit come later.
func (n *news) look(r *catalogue.Reader) ([]byte, error) {
	var b bytes.Buffer
	var err error
	f, follows := &n.filter, n.filter.Arrived.After > 0
	if f.Arrived.UpTo, err = r.Arrived(); err != nil {
		return nil, err
	}
	if f.Arrived.UpTo < f.Arrived.After { // another catalogue is in its place
		f.Arrived.After = 0
	}
	if f.Arrived.After < f.Arrived.UpTo {
		f.Last = hitsPerPage
		hits, err := catalogue.All(r.Hits(*f))
		if err != nil {
			return nil, err
		}
		if len(hits) == hitsPerPage && follows {
			fmt.Fprint(&b, "event: more\ndata: \n\n") // some may be missing between these and the earlier
		}
		for i := range hits {
			if err := n.event(&b, "hit", rowOf(&hits[i])); err != nil {
				return nil, err
			}
		}
		if err := n.proven(&b, r, f.Arrived); err != nil {
			return nil, err
		}
		// A browser that is cut off before here is told again, and knows the rows that it has.
		fmt.Fprintf(&b, "id: %d\n\n", f.Arrived.UpTo)
		f.Arrived.After = f.Arrived.UpTo
	}
	now, err := n.s.status(r)
	if err == nil && now != n.was {
		n.was = now
		err = n.event(&b, "status", now)
	}
	return b.Bytes(), err
}

// proven tells of the rows of hits that were proven within a span.
func (n *news) proven(b *bytes.Buffer, r *catalogue.Reader, span catalogue.Arrivals) error {
	told := 0
	for p, err := range r.Proofs(catalogue.Filter{Last: mostProofs, Arrived: span}) {
		if err != nil {
			return err
		}
		if told++; told == mostProofs && span.After > 0 {
			fmt.Fprint(b, "event: more\ndata: \n\n") // earlier ones are not told
		}
		found, err := r.Find(p.Culprit.Hit.ID)
		if err != nil || found.Hit == nil {
			continue // it was removed meanwhile
		}
		if err := n.event(b, "change", rowOf(found.Hit)); err != nil {
			return err
		}
	}
	return nil
}

// event writes one event whose data is a row of the table, or the status, on one line.
func (n *news) event(b *bytes.Buffer, kind string, data any) error {
	name := "row"
	if kind == "status" {
		name = kind
	}
	var piece bytes.Buffer
	if err := n.s.layout.ExecuteTemplate(&piece, name, data); err != nil {
		return err
	}
	fmt.Fprintf(b, "event: %s\ndata: %s\n\n", kind, bytes.ReplaceAll(piece.Bytes(), []byte("\n"), []byte(" ")))
	return nil
}
