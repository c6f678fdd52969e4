package serve

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/text"
)

// Shape of the plot, in the units of its view box.
const (
	plotBars   = 60
	plotHeight = 48
	barWidth   = 10
)

// plot shows how many hits came when.
type plot struct {
	From, To string
	Total    int
	Most     int
	Width    int
	Height   int
	Bars     []bar
}

type bar struct {
	X, Y, Width, Height int
	Title               string
}

// counts answers with a piece of a page: the plot is loaded after its page, as counting a million hits takes
// longer than showing the newest.
func (s *Server) counts(w http.ResponseWriter, r *http.Request) {
	b, err := s.make(r.Context(), func(reader *catalogue.Reader) ([]byte, error) {
		now := time.Now()
		f, err := filterOf(r.URL.Query(), now)
		if err != nil {
			return nil, err
		}
		since := f.Since
		if since.IsZero() || !since.Before(now) {
			since = now.Add(-24 * time.Hour)
		}
		counts, err := reader.Counts(f, since, now, plotBars)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = s.layout.ExecuteTemplate(&b, "counts.html", plotOf(counts, since, now))
		return b.Bytes(), err
	})
	s.send(w, b, err)
}

func plotOf(counts []int, since, until time.Time) plot {
	p := plot{From: text.Time(since), To: text.Time(until), Most: slices.Max(counts), Width: len(counts) * barWidth, Height: plotHeight}
	part := until.Sub(since) / time.Duration(len(counts))
	for i, n := range counts {
		p.Total += n
		if n == 0 {
			continue
		}
		height := max(2, n*plotHeight/p.Most)
		p.Bars = append(p.Bars, bar{
			X: i * barWidth, Y: plotHeight - height, Width: barWidth - 2, Height: height,
			Title: fmt.Sprintf("%s: %s", text.Time(since.Add(time.Duration(i)*part)), text.Plural(n, "hit")),
		})
	}
	return p
}
