package serve

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culprit/evidence"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/redact"
)

// inCapture makes a capture with traces of these texts, and serves it.
func inCapture(t testing.TB, texts ...string) (at string, c event.Capture, traces []event.Trace, s *evidence.Store) {
	t.Helper()
	s, dir := store(t)
	c = event.Capture{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture}, User: event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateRunning, Level: 1},
	}
	s.Capture(c)
	for _, text := range texts {
		traces = append(traces, traceOf(t, s, c.Event.ID, text))
	}
	at, _ = start(t, dir, "127.0.0.1:0")
	shows(t, at+"/captures/"+c.Event.ID, traces[len(traces)-1].Event.ID)
	return at, c, traces, s
}

var (
	lineID   = regexp.MustCompile(`<li id="L(\d+)"`)
	markup   = regexp.MustCompile(`<[^>]*>`)
	hrefLink = regexp.MustCompile(`<a [^>]*href="([^"]*)"[^>]*>([^<]*)</a>`)
)

// linesOf returns the numbers of the lines on a page.
func linesOf(page string) (all []int64) {
	for _, m := range lineID.FindAllStringSubmatch(page, -1) {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		all = append(all, n)
	}
	return all
}

// linkOn returns where the link of that text leads, or "".
func linkOn(page, text string) string {
	for _, m := range hrefLink.FindAllStringSubmatch(page, -1) {
		if html.UnescapeString(m[2]) == text {
			return html.UnescapeString(m[1])
		}
	}
	return ""
}

// said is what a page says, without its markup.
func said(page string) string { return html.UnescapeString(markup.ReplaceAllString(page, "")) }

// many is a trace of 3,000 lines by two threads.
func many() string {
	var b strings.Builder
	b.WriteString("# culprit trace: ID\n")
	for i := 2; i <= 3000; i++ {
		fmt.Fprintf(&b, "%d 1.%06d read(3</etc/file-%d>, \"x\", 1) = 1\n", 812+min(1, i%1000), i, i)
	}
	return b.String()
}

// Every line is on one page, in both directions, whether the trace is compressed or not.
func TestTracePages(t *testing.T) {
	t.Parallel()
	at, c, traces, _ := inCapture(t, many(), many())
	if err := tracefile.Compress(t.Context(), traces[1].File.Path); err != nil {
		t.Fatal(err)
	}
	for _, tr := range traces {
		page := "/traces/" + tr.Event.ID
		for _, way := range []struct{ begin, follow string }{{page, "Next lines"}, {page + "?before=end", "Previous lines"}} {
			var all []int64
			pages := 0
			for path := way.begin; path != ""; pages++ {
				status, body := get(t, at+path)
				if status != 200 {
					t.Fatalf("%s: %d %s", path, status, body)
				}
				all = append(all, linesOf(body)...)
				path = linkOn(body, way.follow)
			}
			slices.Sort(all)
			if len(all) != 3000 || all[0] != 1 || all[2999] != 3000 || len(slices.Compact(all)) != 3000 || pages != 15 {
				t.Errorf("%s: %d lines on %d pages", way.follow, len(all), pages)
			}
		}
		for line, want := range map[string][2]int64{"1": {1, 200}, "1500": {1450, 1649}, "2999": {2949, 3000}, "999999999999": {2950, 3000}, "0": {1, 200}} {
			_, body := get(t, at+page+"?line="+line)
			if all := linesOf(body); len(all) == 0 || all[0] != want[0] || all[len(all)-1] != want[1] {
				t.Errorf("around line %s: %v", line, all)
			}
		}
		_, body := get(t, at+page+"?line=1500")
		for _, want := range []string{"lines 1450 to 1649 of 3000", "812", "2996", ">First<", "Last"} {
			if !contains(said(body)+body, want) {
				t.Errorf("no %q on the page of line 1500", want)
			}
		}
		if link := linkOn(body, "/etc/file-1500"); link != page+"?line=1500&q=%2Fetc%2Ffile-1500#L1500" {
			t.Errorf("the file leads to %s", link)
		}
		if !contains(body, `<li id="L1500" class="line here"`) {
			t.Error("the line is not marked")
		}
	}
	for _, query := range []string{"line=x", "line=-1", "from=1e3", "thread=99999999999", "go=away", "q=(&re=1", "q=" + strings.Repeat("x", maxPattern+1)} {
		if status, _ := get(t, at+"/traces/"+traces[0].Event.ID+"?"+query); status != 400 {
			t.Errorf("%s: %d", query, status)
		}
	}
	os.Remove(traces[0].File.Path)
	for path, want := range map[string]int{
		"/traces/" + traces[0].Event.ID: 410, "/traces/" + traces[0].Event.ID + "/lines/1": 410, "/traces/" + c.Event.ID: 404,
		"/traces/" + traces[1].Event.ID + "/lines/3001": 404, "/traces/" + traces[1].Event.ID + "/lines/0": 404, "/traces/" + traces[1].Event.ID + "/lines/1?at=-1": 404,
	} {
		if status, _ := get(t, at+path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

// A search leads from match to match in both directions, and marks them.
func TestTraceSearch(t *testing.T) {
	t.Parallel()
	at, c, traces, _ := inCapture(t, many())
	page := "/traces/" + traces[0].Event.ID
	for query, want := range map[string]int64{
		"go=here&q=file-1":                      10,
		"go=here&line=10&q=file-1":              10,
		"go=next&line=10&q=file-1":              11,
		"go=prev&line=100&q=file-1":             19,
		"go=prev&line=99999999&q=file-":         3000,
		"go=here&q=FILE-77&i=1":                 77,
		"go=here&q=FILE-77":                     0,
		"go=here&q=file-[0-9]%2B7%3E&re=1":      17,
		"go=next&line=2000&thread=812":          3000,
		"go=next&line=20&q=file-2&thread=812":   2000,
		"go=prev&line=10&q=file-1":              0,
		"go=here&q=culprit":                     0, // comments are not searched
		"go=here&q=%22%3E%3Cscript%3Ex":         0,
		"go=here&line=3000&q=file-3000":         3000,
		"go=next&line=3000&q=file-3000":         0,
		"go=here&q=file-[0-9]*5%3E&re=1&i=1":    5,
		"go=prev&line=3&q=file-[0-9]*2%3E&re=1": 2,
	} {
		status, body := get(t, at+page+"?"+query)
		number := int64(0)
		if m := regexp.MustCompile(`<li id="L(\d+)" class="line[^"]*here`).FindStringSubmatch(body); m != nil {
			number, _ = strconv.ParseInt(m[1], 10, 64)
		}
		none := contains(body, `class="said">No `)
		if status != 200 || none != (want == 0) || want > 0 && number != want || contains(query, "q=") && (want > 0) != contains(body, `<mark class="found">`) && want > 0 {
			t.Errorf("%s: %d, line %d, none %v; want %d", query, status, number, none, want)
		}
	}
	_, body := get(t, at+page+"?line=1500&q=file-15")
	for text, want := range map[string]string{
		"Next match":                       page + "?go=next&line=1500&q=file-15",
		"Previous match":                   page + "?go=prev&line=1500&q=file-15",
		"Search all traces of the capture": "/captures/" + c.Event.ID + "/grep?q=file-15",
		"End the search":                   page + "?line=1500#L1500",
	} {
		if got := linkOn(body, text); got != want {
			t.Errorf("%s leads to %s, want %s", text, got, want)
		}
	}
	if n := strings.Count(body, `<mark class="found">`); n != 100 { // file-1500 to file-1599
		t.Errorf("%d marks", n)
	}
}

// One thread has its lines only, and all of them.
func TestTraceThread(t *testing.T) {
	t.Parallel()
	at, _, traces, _ := inCapture(t, many())
	page := "/traces/" + traces[0].Event.ID
	_, body := get(t, at+page+"?thread=812&line=1500")
	if got := linesOf(body); !slices.Equal(got, []int64{1000, 2000, 3000}) {
		t.Errorf("thread 812 has %v", got)
	}
	if link := linkOn(body, "All threads"); link != page+"?line=1500#L1500" {
		t.Errorf("all threads: %s", link)
	}
	seen := 0
	for path := page + "?thread=813"; path != ""; path = linkOn(body, "Next lines") {
		_, body = get(t, at+path)
		seen += len(linesOf(body))
	}
	if seen != 2996 {
		t.Errorf("thread 813 has %d lines", seen)
	}
	_, body = get(t, at+page)
	if link := linkOn(body, "812"); link != page+"?thread=812" || !contains(said(body), "2996") {
		t.Errorf("the table of threads leads to %s", link)
	}
	if _, body := get(t, at+page+"?thread=5"); !contains(body, "No lines.") {
		t.Error("a thread that is not there has lines")
	}
}

// Whatever a traced program wrote is text, and all of a long line can be read.
func TestTraceHostile(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<script>alert(1)</script>\u20ac", 1<<21/28)
	text := "# command line: " + hostile + "\n812 1.0 open(\"/" + strings.ReplaceAll(hostile, "\n", "") + "\") = 3</x\"><script>document>\n" +
		"812 1.0 write(1, \"" + long + "\", 1) = 1\n\x1b]0;owned\x07\n<script>document\n812 1.0 execve(\"/<script>\", [], []) = 0\n813 \xff\xfe\n812 1.0 read(0, \"" + strings.Repeat("\x1b\"", 3000)
	at, _, traces, _ := inCapture(t, text)
	page := "/traces/" + traces[0].Event.ID
	for _, query := range []string{"", "?line=3", "?q=%3Cscript%3E", "?q=%22%3E%3Cscript%3Ealert(1)&i=1", "?q=script.*&re=1&line=3", "?thread=812", "?line=4", "/lines/4", "/lines/4?at=100000"} {
		status, body := get(t, at+page+query)
		if status != 200 {
			t.Errorf("%s: %d %.200s", query, status, body)
		}
		for _, bad := range []string{"<script>", "<img", "\x1b", "\x07", "\u202e", "onerror=alert(1)>", "javascript:"} {
			if contains(body, bad) {
				t.Errorf("%s has %q", query, bad)
			}
		}
		if len(body) > 200_000 {
			t.Errorf("%s has %d bytes", query, len(body))
		}
	}
	_, body := get(t, at+page+"?line=4")
	rest := regexp.MustCompile(`href="([^"]*)">… [0-9.]+ MiB more`).FindStringSubmatch(body)
	if rest == nil {
		t.Fatal("nothing leads to the rest of a long line")
	}
	var all strings.Builder
	for path := page + "/lines/4"; path != ""; path = linkOn(body, "Next part") {
		_, body = get(t, at+path)
		_, part, _ := strings.Cut(body, `whole"><code>`)
		part, _, _ = strings.Cut(part, "</code>")
		all.WriteString(html.UnescapeString(part))
	}
	// A part may end within a character; then its bytes are shown as such.
	if got := strings.Count(all.String(), "<script>alert(1)</script>"); got < 1<<21/28-200 || all.Len() < len(long) {
		t.Errorf("the parts of the line have %d bytes, %d scripts", all.Len(), got)
	}
}

// What is not strace's is shown as such.
func TestTraceNotByStrace(t *testing.T) {
	t.Parallel()
	const text = "# culprit trace: ID\n# seen by the kernel: the next line is not strace's: in this call\n812 1.0 sendto(3) = ?\n812 1.0 read(3) = 1\n# ended: exited\n"
	at, c, traces, s := inCapture(t, text)
	_, body := get(t, at+"/traces/"+traces[0].Event.ID)
	if got := strings.Count(body, "written by culprit"); got != 3 {
		t.Errorf("%d lines are written by culprit", got)
	}
	for _, query := range []string{"", "?line=3", "?from=3", "?thread=812"} {
		if _, body := get(t, at+"/traces/"+traces[0].Event.ID+query); strings.Count(body, "seen by the kernel, not by strace") != 1 {
			t.Errorf("%s: the line of the kernel is not told of", query)
		}
	}
	back := traces[0]
	back.Event.ID, back.Culprit.State = event.NewID(), event.StateEnded
	back.Culprit.LookBack = &event.LookBack{Since: time.Now(), Calls: 2}
	f, err := s.Create(&back)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, text)
	f.Close()
	s.Trace(back)
	shows(t, at+"/captures/"+c.Event.ID, back.Event.ID)
	if _, body := get(t, at+"/traces/"+back.Event.ID); !contains(body, "This is a look-back, not a trace by strace") || strings.Count(body, ">look-back<") != 1 {
		t.Error("a look-back looks like a trace")
	}
}

// A running trace shows what has come, and masked text stays masked.
func TestTraceGrows(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	mask, wrong := redact.Compile([]string{"secret[0-9]*"})
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	s.Redact(mask)
	tr := traceOf(t, s, event.NewID(), "812 1.0 execve(\"/bin/secret1\", [\"secret2\"], []) = 0\n")
	at, _ := start(t, dir, "127.0.0.1:0")
	page := at + "/traces/" + tr.Event.ID
	shows(t, page, "lines 1 to 1 of 1")
	w, err := os.OpenFile(tr.File.Path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := 2; i < 5; i++ {
		fmt.Fprintf(w, "812 1.0 close(%d) = 0\n812 1.0 read(", i)
		if _, body := get(t, page); !contains(body, fmt.Sprintf("close(%d)", i)) || !contains(body, fmt.Sprintf("of %d", 3*i-3)) || !contains(body, "still being written") {
			t.Errorf("line %d is not there: %s", i, said(body))
		}
		fmt.Fprintln(w, "3) = 0")
		fmt.Fprintln(w)
	}
	if _, body := get(t, page); contains(body, "secret") {
		t.Error("a secret is shown")
	}
}

// A search in all traces of a capture finds every line, page by page.
func TestGrepPage(t *testing.T) {
	t.Parallel()
	at, c, traces, _ := inCapture(t, many(), "812 1.0 read(\"nothing\")\n", many(), "812 1.0 read(\"file-7\")\n")
	os.Remove(traces[1].File.Path)
	seen, pages := 0, 0
	_, body := get(t, at+"/captures/"+c.Event.ID+"/grep?q=file-1")
	for ; pages < 100; pages++ {
		seen += strings.Count(body, `<li class="line`)
		next := linkOn(body, "Go on")
		if next == "" {
			break
		}
		_, body = get(t, at+next)
	}
	if seen != 2*1110 || pages < 10 {
		t.Errorf("%d lines on %d pages", seen, pages)
	}
	for query, want := range map[string]string{
		"q=file-7&re=&from=" + traces[3].Event.ID + ":1": "1 line found in 1 trace",
		"q=nowhere":           "0 lines found in 4 traces; not searched: 1 trace whose files were removed",
		"q=file-299%5B89&re=": "0 lines found",
	} {
		if status, body := get(t, at+"/captures/"+c.Event.ID+"/grep?"+query); status != 200 || !contains(said(body), want) {
			t.Errorf("%s: %d, want %q in %s", query, status, want, said(body))
		}
	}
	for path, want := range map[string]int{"?q=(&re=1": 400, "?q=x&from=y": 400, "?q=x&from=y:0": 400, "": 200} {
		if status, _ := get(t, at+"/captures/"+c.Event.ID+"/grep"+path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	if status, _ := get(t, at+"/captures/"+traces[0].Event.ID+"/grep?q=x"); status != 404 {
		t.Errorf("a search in a trace as a capture: %d", status)
	}
}

// Traces as real programs make them can be read to their end, and every link on their pages leads somewhere.
func TestTraceReal(t *testing.T) {
	t.Parallel()
	samples, err := filepath.Glob("../evidence/proof/testdata/*.strace")
	if err != nil || len(samples) == 0 {
		t.Fatal("no samples of traces", err)
	}
	for _, path := range samples[:4] {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at, _, traces, _ := inCapture(t, string(b))
		if err := tracefile.Compress(t.Context(), traces[0].File.Path); err != nil {
			t.Fatal(err)
		}
		_, body := get(t, at+"/traces/"+traces[0].Event.ID+"?before=end")
		tried := map[string]bool{}
		for _, m := range hrefLink.FindAllStringSubmatch(body, -1) {
			u, err := url.Parse(html.UnescapeString(m[1]))
			if err != nil {
				t.Error(err)
				continue
			}
			u.Fragment = ""
			if kind := u.Path + strings.Join(slices.Sorted(maps.Keys(u.Query())), "&"); !tried[kind] {
				tried[kind] = true
				if status, body := get(t, at+u.String()); status != 200 {
					t.Errorf("%s: %s: %d %.200s", path, u, status, body)
				}
			}
		}
		if len(tried) < 8 {
			t.Errorf("%s: only %d links", path, len(tried))
		}
	}
}
