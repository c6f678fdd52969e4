package serve

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestFilters(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	s.Hit(hitOf("one.badzone.test"))
	s.Hit(hitOf("two.badzone.test", func(h *event.Hit) { h.User.ID, h.Rule.Name = "8", "other" }))
	s.Hit(hitOf("notbadzone.test", func(h *event.Hit) { h.Container = &event.Container{ID: "c0ffee", Name: "cart"} }))
	at, _ := start(t, dir, "127.0.0.1:0")
	shows(t, at, "notbadzone.test A")
	for query, want := range map[string]string{
		"":                        "one two not",
		"user=7":                  "one not",
		"user=8":                  "two",
		"rule=other":              "two",
		"name=badzone.test":       "one two",
		"name=ONE.badzone.test.":  "one",
		"container=cart":          "not",
		"since=1h":                "one two not",
		"since=1h&user=8&rule=no": "",
		"list=urlhaus.txt":        "",
		"name=%25":                "",
	} {
		status, body := get(t, at+"/?"+query)
		var got []string
		for what, name := range map[string]string{"one": "one.badzone.test A", "two": "two.badzone.test A", "not": "notbadzone.test A"} {
			if contains(body, "<code>"+name) {
				got = append(got, what)
			}
		}
		if status != 200 || len(got) != len(strings.Fields(want)) || !containsAll(strings.Fields(want), got) {
			t.Errorf("%s: %d %q, want %q", query, status, got, want)
		}
	}
	for _, query := range []string{"user=nobody-has-this-name", "since=yesterday", "before=x"} {
		if status, body := get(t, at+"/?"+query); status != 400 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

func containsAll(all, some []string) bool {
	joined := " " + strings.Join(all, " ") + " "
	for _, one := range some {
		if !contains(joined, " "+one+" ") {
			return false
		}
	}
	return true
}

// Every hit is on one page, however many there are.
func TestOlder(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	for i := range 2*hitsPerPage + 1 {
		s.Hit(hitOf(fmt.Sprintf("n%d.badzone.test", i)))
	}
	at, _ := start(t, dir, "127.0.0.1:0")
	body := shows(t, at, fmt.Sprintf("n%d.badzone.test A", 2*hitsPerPage))
	seen, pages := 0, 0
	for {
		pages++
		seen += strings.Count(body, "<tr data-id=")
		_, next, more := strings.Cut(body, `rel="next" href="`)
		if !more {
			break
		}
		next, _, _ = strings.Cut(next, `"`)
		_, body = get(t, at+strings.ReplaceAll(next, "&amp;", "&"))
	}
	if seen != 2*hitsPerPage+1 || pages != 3 {
		t.Errorf("%d hits on %d pages", seen, pages)
	}
}

// What an adversary wrote is text, on every page and in what is told of new hits.
func TestHostile(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	c := event.Capture{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture}, User: event.User{ID: "7", Name: hostile},
		Rule: &event.Rule{Name: hostile}, Culprit: event.CaptureDetail{State: event.StateRunning, Level: 1, Hits: 1},
	}
	h := hitOf(hostile, func(h *event.Hit) {
		h.Rule.Name, h.User.Name, h.Process.CommandLine = hostile, hostile, hostile
		h.Culprit.NoCapture, h.Culprit.Capture = nil, &event.Reference{ID: c.Event.ID}
		h.Container = &event.Container{ID: hostile, Name: hostile}
		h.Threat = &event.Threat{Indicator: event.Indicator{Name: hostile, Description: hostile}, Feed: event.Feed{Name: hostile}}
		h.Culprit.Listed = &event.Listed{File: hostile, Line: 1}
	})
	s.Capture(c)
	s.Hit(h)
	s.Lost(event.NewLoss(event.LossDamaged, hostile, 1))
	at, _ := start(t, dir, "127.0.0.1:0")
	shows(t, at, h.Event.ID)
	shows(t, at+"/losses", "owned")
	for _, path := range []string{"/", "/captures", "/losses", "/hits/" + h.Event.ID, "/captures/" + c.Event.ID, "/?name=" + "%3Cscript%3E", "/hits/%3Cscript%3E", "/counts"} {
		_, body := get(t, at+path)
		for _, bad := range []string{"<script>document", "<script>\"", "<img", "\x1b", "\u202e", "onerror=alert(1)>"} {
			if contains(body, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
	}
	stream := listenTo(t, at+"/events", "")
	for line := range stream {
		if contains(line, "<script") || contains(line, "<img") || contains(line, "\x1b") {
			t.Errorf("told of new hits: %s", line)
		}
		if strings.HasPrefix(line, "event: status") {
			break
		}
	}
}

// listenTo yields the lines of a stream of events until the test ends.
func listenTo(t *testing.T, url, last string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for scan := bufio.NewScanner(answer.Body); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); answer.Body.Close(); <-done })
	return lines
}

// newest is the number of the latest arrival that a page knows.
func newest(t *testing.T, page string) string {
	t.Helper()
	m := regexp.MustCompile(`data-newest="(\d+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("the page does not say what arrived last: %s", page)
	}
	return m[1]
}

// next returns what the next line of a stream that begins so says.
func next(t *testing.T, stream <-chan string, begin string) string {
	t.Helper()
	patience := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-stream:
			if said, is := strings.CutPrefix(line, begin); is {
				return said
			}
			if !ok {
				t.Fatal("the stream ended")
			}
		case <-patience:
			t.Fatalf("no %q within 30 s", begin)
		}
	}
}

// nextHit returns the id of the next hit of a stream.
func nextHit(t *testing.T, stream <-chan string) string {
	t.Helper()
	next(t, stream, "event: hit")
	id, _, _ := strings.Cut(next(t, stream, `data: <tr data-id="`), `"`)
	return id
}

// New hits come in order, those that the filter wants only, and whoever was away gets what he missed.
func TestLive(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	first := hitOf("first.badzone.test")
	s.Hit(first)
	at, _ := start(t, dir, "127.0.0.1:0")
	page := at + "/events?after=" + newest(t, shows(t, at, first.Event.ID))
	all, only := listenTo(t, page, ""), listenTo(t, page+"&user=8", "")
	second, third := hitOf("second.badzone.test"), hitOf("third.badzone.test", func(h *event.Hit) { h.User.ID = "8" })
	s.Hit(second)
	if got := nextHit(t, all); got != second.Event.ID {
		t.Errorf("told of %s, want %s", got, second.Event.ID)
	}
	known := next(t, all, "id: ")
	s.Hit(third)
	if got := nextHit(t, all); got != third.Event.ID {
		t.Errorf("told of %s, want %s", got, third.Event.ID)
	}
	if got := nextHit(t, only); got != third.Event.ID {
		t.Errorf("of user 8: %s, want %s", got, third.Event.ID)
	}
	if got := nextHit(t, listenTo(t, page, known)); got != third.Event.ID {
		t.Errorf("after a reconnect: %s, want %s", got, third.Event.ID)
	}
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	c := event.Capture{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture}, User: event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateRunning, Level: 1},
	}
	h := hitOf("x.badzone.test", func(h *event.Hit) { h.Culprit.NoCapture, h.Culprit.Capture = nil, &event.Reference{ID: c.Event.ID} })
	tr := traceOf(t, s, c.Event.ID, "812 1.0 sendto(3)\n")
	s.Capture(c)
	s.Hit(h)
	at, _ := start(t, dir, "127.0.0.1:0")
	shows(t, at, h.Event.ID)
	shows(t, at+"/captures/"+c.Event.ID, tr.Event.ID)
	for path, magic := range map[string]string{
		"/hits/" + h.Event.ID + ".pcapng":      "\x0a\x0d\x0d\x0a",
		"/captures/" + c.Event.ID + ".pcapng":  "\x0a\x0d\x0d\x0a",
		"/captures/" + c.Event.ID + ".tar.zst": "\x28\xb5\x2f\xfd",
		"/traces/" + tr.Event.ID + ".strace":   "812 1.0 sendto(3)\n",
	} {
		if status, body := get(t, at+path); status != 200 || !strings.HasPrefix(body, magic) {
			t.Errorf("%s: %d %.20q", path, status, body)
		}
	}
	if err := os.Remove(tr.File.Path); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/traces/" + tr.Event.ID + ".strace": 410,
		"/traces/" + h.Event.ID + ".strace":  404,
		"/hits/" + c.Event.ID:                404,
		"/captures/" + h.Event.ID:            404,
		"/hits/..%2f..%2fetc%2fpasswd":       404,
		"/nowhere":                           404,
	} {
		if status, body := get(t, at+path); status != want {
			t.Errorf("%s: %d %.80q, want %d", path, status, body, want)
		}
	}
}

// Without evidence the page says so, and shows it as soon as there is some.
func TestNoEvidence(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	at, _ := start(t, dir, "127.0.0.1:0")
	if status, body := get(t, at); status != 503 || !contains(body, "there is no catalogue") {
		t.Errorf("%d %s", status, body)
	}
}

// Whoever does not read holds up neither others nor the writer.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	at, _ := start(t, dir, "127.0.0.1:0")
	for range maxPages + 2 {
		c, err := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 50 {
			fmt.Fprintf(c, "GET /style.css HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %[1]s\r\n\r\n", token)
		}
	}
	h := hitOf("later.badzone.test")
	s.Hit(h)
	shows(t, at, h.Event.ID)
}

// The first page stays small, whatever the names are.
func TestFirstPageIsSmall(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	for range hitsPerPage + 1 {
		s.Hit(hitOf(strings.Repeat("\"<&'>", 60), func(h *event.Hit) { h.Rule.Name = strings.Repeat("<", 200) }))
	}
	last := hitOf("last.badzone.test")
	s.Hit(last)
	at, _ := start(t, dir, "127.0.0.1:0")
	if body := shows(t, at, last.Event.ID); len(body) > 200_000 {
		t.Errorf("the first page has %d bytes", len(body))
	}
}
