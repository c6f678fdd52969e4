package evidence

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"culprit/test/harness"
)

// A browser gets from a hit to the line that sent its packet and back, while the trace is written and after it was compressed.
func TestServedTrace(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	s := d.Captured(uid)
	h.StartAs(uid, "php", "-n", "-r", `gethostbyname("guilty.badzone.test");`).Wait()
	d.AwaitLog("proven")

	server := h.StartAs(0, harness.Programs.Culprit, "serve", "--evidence", d.Evidence, "--listen", "127.0.0.1:9358")
	server.Said("/login?token=", 1)
	_, token, _ := strings.Cut(server.Output.String(), "token=")
	token, err := url.QueryUnescape(strings.TrimSpace(token))
	if err != nil {
		t.Fatal(err)
	}
	page := func(path string) string {
		t.Helper()
		return h.Must(t, "curl", "-gsfL", "-H", "Authorization: Bearer "+token, "http://127.0.0.1:9358"+path)
	}
	var hit, line string
	harness.Eventually(t, "the hit is proven on its page", func() error {
		for _, m := range regexp.MustCompile(`<tr data-id="(\w+)">.*`).FindAllStringSubmatch(page("/"), -1) {
			proof := regexp.MustCompile(`<a class="badge proven" href="([^"]*)">`).FindStringSubmatch(m[0])
			if strings.Contains(m[0], "guilty.badzone.test") && proof != nil {
				hit, line = m[1], html.UnescapeString(proof[1])
				return nil
			}
		}
		return fmt.Errorf("no proof of guilty.badzone.test")
	})
	check := func(when string) {
		t.Helper()
		p := page(strings.Split(line, "#")[0])
		_, at, _ := strings.Cut(line, "#")
		proven := regexp.MustCompile(`<li id="` + at + `" class="line is here">.*`).FindString(p)
		if !strings.Contains(proven, `guilty\7badzone\4test`) || !strings.Contains(proven, `href="/hits/`+hit+`"`) || !strings.Contains(proven, ">127.0.0.1</a>") {
			t.Errorf("%s: the line of the proof is %q of %s", when, proven, line)
		}
		if !strings.Contains(page("/hits/"+hit), html.EscapeString(line)) {
			t.Errorf("%s: the hit does not lead to %s", when, line)
		}
		trace := strings.Split(line, "?")[0]
		if p := page(trace + "?from=1"); !strings.Contains(p, "written by culprit") || !strings.Contains(p, ">/usr/bin/") {
			t.Errorf("%s: the header of the trace is not marked", when)
		}
		if p := page(trace + "?go=here&q=" + url.QueryEscape(`\7badzone`)); !strings.Contains(p, `<li id="`+at+`" class="line is here">`) {
			t.Errorf("%s: the search does not find %s", when, at)
		}
	}
	check("while culprit runs")
	s.Cmd.Process.Kill()
	d.Stop()
	if said := h.Culprit("prune", "--evidence", d.Evidence).Must(t); !strings.Contains(said, "compressed") {
		t.Errorf("prune says %q", said)
	}
	check("compressed")
}
