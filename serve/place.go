package serve

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"culprit/evidence/grep"
)

// maxPattern bounds what is searched for, in bytes.
const maxPattern = 1000

// search is what is searched for, as it stands in an address.
type search struct {
	Text       string
	Regex      bool // Text is a regular expression, as for culprit grep
	IgnoreCase bool
	pattern    *grep.Pattern // nil: nothing is searched for
}

// searchOf reads what the address of a page searches for.
func searchOf(q url.Values) (s search, err error) {
	s = search{Text: q.Get("q"), Regex: q.Get("re") != "", IgnoreCase: q.Get("i") != ""}
	if s.Text == "" {
		return s, nil
	}
	if len(s.Text) > maxPattern {
		return s, wrong(http.StatusBadRequest, "search for a shorter text: %d bytes are allowed", maxPattern)
	}
	s.pattern, err = grep.Compile([]string{s.Text}, grep.Options{Fixed: !s.Regex, IgnoreCase: s.IgnoreCase})
	if err != nil {
		return s, problem{http.StatusBadRequest, err}
	}
	return s, nil
}

// set writes the search into an address.
func (s search) set(q url.Values) {
	if s.Text == "" {
		return
	}
	q.Set("q", s.Text)
	if s.Regex {
		q.Set("re", "1")
	}
	if s.IgnoreCase {
		q.Set("i", "1")
	}
}

// place is a place in a trace, as it stands in an address.
type place struct {
	trace  string // its id
	search search
	thread int   // only lines of this thread; 0: of all
	line   int64 // the lines around this one; 0: none
	from   int64 // … or those from here on
	before int64 // … or those before this one
	step   string
}

// Steps to a match of the search, from a line.
const (
	stepHere     = "here" // the line itself or the next that matches
	stepNext     = "next"
	stepPrevious = "prev"
)

// placeOf reads the address of a page of a trace.
func placeOf(id string, q url.Values) (p place, err error) {
	p.trace = strings.ToUpper(id)
	if p.search, err = searchOf(q); err != nil {
		return p, err
	}
	thread := int64(0)
	for name, to := range map[string]*int64{"line": &p.line, "from": &p.from, "before": &p.before, "thread": &thread} {
		value := strings.TrimSpace(q.Get(name))
		if value == "" {
			continue
		}
		if name == "before" && value == "end" {
			*to = math.MaxInt64
			continue
		}
		if *to, err = strconv.ParseInt(value, 10, 64); err != nil || *to < 0 || name == "thread" && *to > math.MaxInt32 {
			return p, wrong(http.StatusBadRequest, "%s is not a number from 0", name)
		}
	}
	p.thread = int(thread)
	switch p.step = q.Get("go"); p.step {
	case "", stepHere, stepNext, stepPrevious:
	default:
		return p, wrong(http.StatusBadRequest, "go is %s, %s or %s", stepHere, stepNext, stepPrevious)
	}
	return p, nil
}

// address is where a place is shown.
func (p place) address() string {
	q := url.Values{}
	p.search.set(q)
	number := func(name string, n int64) {
		if n > 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	number("thread", int64(p.thread))
	fragment := ""
	switch {
	case p.before == math.MaxInt64:
		q.Set("before", "end")
	case p.before > 0:
		number("before", p.before)
	case p.from > 0:
		number("from", p.from)
	case p.line > 0:
		number("line", p.line)
		fragment = "#L" + strconv.FormatInt(p.line, 10)
	}
	if p.step != "" {
		q.Set("go", p.step)
		fragment = ""
	}
	a := "/traces/" + url.PathEscape(p.trace)
	if len(q) > 0 {
		a += "?" + q.Encode()
	}
	return a + fragment
}

// at returns the same view of the trace around a line.
func (p place) at(line int64) place {
	p.line, p.from, p.before, p.step = line, 0, 0, ""
	return p
}

func (p place) startingAt(line int64) place {
	p = p.at(0)
	p.from = line
	return p
}

func (p place) endingBefore(line int64) place {
	p = p.at(0)
	p.before = line
	return p
}

func (p place) going(step string, line int64) place {
	p = p.at(line)
	p.step = step
	return p
}

// traceLine is where a line of a trace is shown.
func traceLine(trace string, line int64) string { return place{trace: trace, line: line}.address() }
