package serve

import (
	"context"
	"net/http"
	"strconv"

	"culprit/evidence/catalogue"
	"culprit/evidence/view"
	"culprit/internal/text"
)

// pieceShown is how many bytes of a long line are shown at once.
const pieceShown = 16 << 10

// longLinePage is the page of a part of a line.
type longLinePage struct {
	Number         int64
	Line           string // where the line is shown among others
	From, To, Size int64  // bytes
	Text           string
	Previous, Next string
}

// traceLine shows a part of one line, however long it is.
func (s *Server) traceLine(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("line"), 10, 64)
	at := int64(0)
	if value := r.URL.Query().Get("at"); value != "" && err == nil {
		at, err = strconv.ParseInt(value, 10, 64)
	}
	if err != nil || n < 1 || at < 0 {
		s.send(w, nil, wrong(http.StatusNotFound, "there is no such line"))
		return
	}
	t, err := s.traceOf(r.Context(), r.PathValue("id"))
	if err != nil {
		s.send(w, nil, err)
		return
	}
	p := longLinePage{Number: n, Line: traceLine(t.Event.ID, n)}
	err = s.reading(r.Context(), t.File.Path, func(ctx context.Context, tr *view.Trace) error {
		if n > tr.Index.Lines() {
			return wrong(http.StatusNotFound, "the trace has only %s", text.Plural(tr.Index.Lines(), "line"))
		}
		piece, size, err := tr.Piece(ctx, n, at, pieceShown)
		p.From, p.To, p.Size, p.Text = min(at, size), min(at, size)+int64(len(piece)), size, text.Escape(string(piece))
		return err
	})
	if err != nil {
		s.send(w, nil, err)
		return
	}
	if p.From > 0 {
		p.Previous = pieceAddress(t.Event.ID, n, max(0, p.From-pieceShown))
	}
	if p.To < p.Size {
		p.Next = pieceAddress(t.Event.ID, n, p.To)
	}
	s.page(w, r, "line.html", func(*catalogue.Reader) (string, any, error) {
		return "Line " + strconv.FormatInt(n, 10) + " of a trace", p, nil
	})
}
