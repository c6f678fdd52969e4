package serve

import (
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/text"
)

// fields are the filters of the address bar, with what they are called on the page.
var fields = []struct{ Name, Label, Example string }{
	{"user", "User", "web1"},
	{"rule", "Rule", "badzone"},
	{"name", "Name", "evil.example"},
	{"list", "List", "urlhaus.txt"},
	{"container", "Container", "cart"},
	{hostField, "Host", "web1"},
	{"since", "Since", "2h"},
}

// hostField is a filter that only a fleet has.
const hostField = "host"

// filterOf reads the filters in the address of a page.
func filterOf(q url.Values, now time.Time) (f catalogue.Filter, err error) {
	value := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	if s := value("user"); s != "" {
		u, err := config.ParseUser(s)
		if err != nil {
			return f, problem{http.StatusBadRequest, err}
		}
		f.UID = &u.UID
	}
	if s := value("since"); s != "" {
		if f.Since, err = text.Since(s, now); err != nil {
			return f, wrong(http.StatusBadRequest, "since: %w", err)
		}
	}
	f.Rule, f.Name, f.List, f.Container, f.Host = value("rule"), value("name"), value("list"), value("container"), value(hostField)
	if f.Before = value("before"); f.Before != "" {
		if _, err := ulid.ParseStrict(f.Before); err != nil {
			return f, wrong(http.StatusBadRequest, "before is not an id")
		}
	}
	if s := value("after"); s != "" {
		if f.Arrived.After, err = strconv.ParseInt(s, 10, 64); err != nil || f.Arrived.After < 0 {
			return f, wrong(http.StatusBadRequest, "after is not the number of an arrival")
		}
	}
	return f, nil
}

// input is a filter in the form of a page.
type input struct{ Name, Label, Value, Example string }

// inputs are the filters, as they are set.
func inputs(q url.Values, fleet bool) (all []input, set bool) {
	for _, f := range fields {
		if f.Name == hostField && !fleet {
			continue
		}
		value := strings.TrimSpace(q.Get(f.Name))
		all = append(all, input{f.Name, f.Label, value, f.Example})
		set = set || value != ""
	}
	return all, set
}

// query writes the filters of an address again, with one more.
func query(q url.Values, name, value string) template.URL {
	only := url.Values{}
	for _, f := range fields {
		if v := strings.TrimSpace(q.Get(f.Name)); v != "" {
			only.Set(f.Name, v)
		}
	}
	if value != "" {
		only.Set(name, value)
	}
	return template.URL(only.Encode()) // as a whole; html/template would escape it as one value
}
