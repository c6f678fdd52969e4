package serve

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
)

const (
	lookEvery  = 300 * time.Millisecond
	signOfLife = 15 * time.Second // between two signs that the connection is there
	keepProofs = 50
)

// events tells a page of hits as they come (server-sent events), and of rows that have changed. Each
// reader has a loop of its own that reads what is new, closes the catalogue and only then writes: one that
// does not read in time is cut off, and its browser comes again with the id of the last hit that it has.
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
	filter catalogue.Filter // After is the last hit that it was told of
	proofs map[string]bool  // that it was told of
	hits   map[string]bool  // of the last seconds that it was told of, in a fleet
	was    status
}

// look returns what has changed since the last look, as events.
func (n *news) look(r *catalogue.Reader) ([]byte, error) {
	var b bytes.Buffer
	hits, err := n.fresh(r)
	if err != nil {
		return nil, err
	}
	if len(hits) == hitsPerPage && n.filter.After != "" {
		fmt.Fprint(&b, "event: more\ndata: \n\n") // some may be missing between these and the earlier
	}
	for i := range hits {
		n.filter.After = max(n.filter.After, hits[i].Event.ID)
		if err := n.row(&b, &hits[i]); err != nil {
			return nil, err
		}
	}
	if err := n.proven(&b, r); err != nil {
		return nil, err
	}
	now, err := n.s.status(r)
	if err == nil && now != n.was {
		n.was = now
		err = n.event(&b, "status", "", "status", now)
	}
	return b.Bytes(), err
}

// settles is how long after another, of another host, an earlier hit may come into the mirror of a fleet and still be
// told as new.
const settles = 10 * time.Second

// fresh returns the hits that the page was not told of.
func (n *news) fresh(r *catalogue.Reader) ([]event.Hit, error) {
	f := n.filter
	f.Last = hitsPerPage
	fleet, err := isFleet(r)
	if err != nil || !fleet {
		if err != nil {
			return nil, err
		}
		return catalogue.All(r.Hits(f))
	}
	f.After = catalogue.Earlier(f.After, settles)
	hits, err := catalogue.All(r.Hits(f))
	if err != nil {
		return nil, err
	}
	told := map[string]bool{}
	var fresh []event.Hit
	for _, h := range hits {
		told[h.Event.ID] = true
		if !n.hits[h.Event.ID] && h.Event.ID != n.filter.After {
			fresh = append(fresh, h)
		}
	}
	if n.hits == nil && n.filter.After != "" { // the page itself has those before
		fresh = slices.DeleteFunc(fresh, func(h event.Hit) bool { return h.Event.ID < n.filter.After })
	}
	n.hits = told
	return fresh, nil
}

// proven tells of the rows of hits that were proven since the last look. The first look tells of the last ones:
// they may have come after the page was made.
func (n *news) proven(b *bytes.Buffer, r *catalogue.Reader) error {
	known := map[string]bool{}
	for p, err := range r.Proofs(catalogue.Filter{Last: keepProofs}) {
		if err != nil {
			return err
		}
		known[p.Event.ID] = true
		if n.proofs[p.Event.ID] {
			continue
		}
		found, err := r.Find(p.Culprit.Hit.ID)
		if err != nil || found.Hit == nil {
			continue // it was removed meanwhile
		}
		if err := n.event(b, "change", "", "row", rowOf(found.Hit)); err != nil {
			return err
		}
	}
	n.proofs = known
	return nil
}

func (n *news) row(b *bytes.Buffer, h *event.Hit) error {
	return n.event(b, "hit", h.Event.ID, "row", rowOf(h))
}

// event writes one event whose data is a piece of a page, on one line.
func (n *news) event(b *bytes.Buffer, kind, id, name string, data any) error {
	var piece bytes.Buffer
	if err := n.s.layout.ExecuteTemplate(&piece, name, data); err != nil {
		return err
	}
	if id != "" {
		fmt.Fprintf(b, "id: %s\n", id)
	}
	fmt.Fprintf(b, "event: %s\ndata: %s\n\n", kind, bytes.ReplaceAll(piece.Bytes(), []byte("\n"), []byte(" ")))
	return nil
}
