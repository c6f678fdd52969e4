package serve

import (
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// hitsPerPage is small, so that the first page is.
const hitsPerPage = 50

// hitsPage is the page of hits.
type hitsPage struct {
	Inputs   []input
	Filtered bool
	Rows     []row
	Older    template.URL // the query of the next page; "": this is the last
	Paged    bool         // this is not the first page: no new hits come here
	Query    template.URL // the filters, for what the page loads
	Newest   int64        // the number of the latest arrival
	Running  int          // captures
	Fleet    bool
}

// row is a hit in the table. All its text is escaped.
type row struct {
	ID, Time, Rule, User, Asks, Place, From, Sure, Proof string
	Capture, ProofLink                                   string
	Host                                                 string // "": not of a fleet
	Count                                                int
}

func rowOf(h *event.Hit) row {
	r := row{
		ID: h.Event.ID, Time: text.Time(h.Timestamp), Rule: clip(h.Rule.Name), User: clip(h.User.String()), Asks: clip(h.Asks()),
		From: clip(words.Sender(h)), Count: h.Culprit.Count, Sure: string(h.Culprit.Origin.Grade),
	}
	if h.Host != nil {
		r.Host = clip(h.Host.Name)
	}
	if entry := h.Entry(); entry != "" {
		r.Asks += clip(", on " + entry)
	}
	if h.Container != nil {
		r.Place = clip(words.Container(&h.Place))
	}
	if c := h.Culprit.Capture; c != nil {
		r.Capture = c.ID
	}
	if p := h.Culprit.Proof; p != nil {
		r.Proof, r.ProofLink = words.Lines(p), traceLine(p.Trace.ID, p.Line)
		switch {
		case p.Probable:
			r.Proof, r.Sure = r.Proof+", probable", "probable"
		case p.Kernel:
			r.Proof, r.Sure = r.Proof+", as the kernel saw", "proven"
		default:
			r.Sure = "proven"
		}
	}
	return r
}

// clip escapes and shortens foreign text.
func clip(s string) string {
	const most = 120
	return text.Clip(text.Escape(s), most)
}

func (s *Server) hits(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.page(w, r, "hits.html", func(reader *catalogue.Reader) (string, any, error) {
		f, err := filterOf(q, time.Now())
		if err != nil {
			return "", nil, err
		}
		f.Last = hitsPerPage + 1
		p := hitsPage{Query: query(q, "", ""), Paged: f.Before != ""}
		if p.Fleet, err = isFleet(reader); err != nil {
			return "", nil, err
		}
		p.Inputs, p.Filtered = inputs(q, p.Fleet)
		if p.Newest, err = reader.Arrived(); err != nil { // before the hits: none is missing between them and the next
			return "", nil, err
		}
		hits, err := catalogue.All(reader.Hits(f))
		if err != nil {
			return "", nil, err
		}
		slices.Reverse(hits)
		if len(hits) > hitsPerPage {
			hits = hits[:hitsPerPage]
			p.Older = query(q, "before", hits[len(hits)-1].Event.ID)
		}
		for i := range hits {
			p.Rows = append(p.Rows, rowOf(&hits[i]))
		}
		running, err := reader.RunningCaptures()
		p.Running = len(running)
		return "Hits", p, err
	})
}

// lost says in a sentence what was lost within the last day, or "".
func lost(r *catalogue.Reader) (string, error) {
	kinds, count := map[event.LossCode]bool{}, uint64(0)
	for l, err := range r.Losses(catalogue.Filter{Since: time.Now().Add(-24 * time.Hour), Last: maxLosses}) {
		if err != nil {
			return "", err
		}
		kinds[l.Culprit.Code] = true
		count += l.Culprit.Count
	}
	if count == 0 {
		return "", nil
	}
	return fmt.Sprintf("%d lost in the last 24 hours, of %s", count, text.Plural(len(kinds), "kind")), nil
}
