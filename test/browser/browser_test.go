package browser

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"culprit/test/harness"
)

// names are the names in the first column of questions, from the top.
const names = `[...document.querySelectorAll("#hits td[data-label=Asks]")].map(td => td.textContent.split(" ")[0])`

// has tells whether the page of hits has a name, and how often.
func has(name string, times int) string {
	return fmt.Sprintf(`%s.filter(n => n == %q).length == %d`, names, name, times)
}

// live asks for names, one after the other, each when the one before has appeared, and returns how long each took, the
// shortest first.
func live(p *page, s *harness.Sender, prefix string, hits int) (took []time.Duration) {
	p.t.Helper()
	for i := range hits {
		name := fmt.Sprintf("%s%d.badzone.test", prefix, i)
		begin := time.Now()
		s.Ask(name)
		p.until(name+" appears", has(name, 1))
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took
}

// BenchmarkLive says how long it takes from a question to its row in a browser.
func BenchmarkLive(b *testing.B) {
	h := harness.NewHost(b, "")
	d := h.Hunt(harness.Gated)
	s := h.Sender(harness.NewUID())
	p := open(b, serve(b, d.Evidence), 1200)
	const hits = 200
	var took []time.Duration
	for round := 0; b.Loop(); round++ {
		took = live(p, s, fmt.Sprintf("r%d-", round), hits)
	}
	for what, d := range map[string]time.Duration{"p50-ms": took[hits/2], "p99-ms": took[hits*99/100], "worst-ms": took[hits-1]} {
		b.ReportMetric(float64(d.Microseconds())/1000, what)
	}
	p.quiet("a live hunt")
}

// A hit appears by itself, in order. Daemon and server may end and start again: nothing is missing, and nothing is there twice.
func TestLive(t *testing.T) {
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	s := h.Sender(harness.NewUID())
	server := serve(t, d.Evidence)
	p := open(t, server, 1200)
	p.until("the daemon is shown to run", `document.querySelector("#status .runs") != null`)

	const hits = 30
	took := live(p, s, "n", hits)
	t.Logf("from the question to the row in the browser: p50 %s, worst %s of %d", took[hits/2], took[hits-1], hits)
	for i, name := range ask[[]string](p, names) {
		if want := fmt.Sprintf("n%d.badzone.test", hits-1-i); name != want {
			t.Fatalf("row %d asks for %s, want %s", i, name, want)
		}
	}

	config := d.Config
	d.Stop()
	p.until("the end of the daemon is shown", `document.querySelector("#status .stopped") != null`)
	d = h.HuntWith(config, d.Evidence)
	p.until("the daemon is shown to run again", `document.querySelector("#status .runs") != null`)
	s.Ask("second.badzone.test")
	p.until("the page goes on after the daemon's restart", has("second.badzone.test", 1))

	server.stop()
	p.until("the page says that the server is away", `/away|do not come/.test(document.querySelector("#live").textContent)`)
	s.Ask("meanwhile.badzone.test")
	d.Hit("meanwhile.badzone.test")
	server.start()
	p.until("what came meanwhile is there", has("meanwhile.badzone.test", 1))
	s.Ask("third.badzone.test")
	p.until("the page goes on after the server's restart", has("third.badzone.test", 1))
	if twice := ask[bool](p, names+`.some((n, i, all) => all.indexOf(n) != i)`); twice {
		t.Errorf("a hit is there twice: %v", ask[[]string](p, names))
	}
	p.quiet("a live hunt")
}

// evidence is a proven hit of a hostile program, with its capture and trace, and who shows them.
type evidence struct {
	server              *server
	hit, capture, trace string
}

func hunted(t *testing.T) evidence {
	t.Helper()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	evil := t.TempDir() + `/<script>document.title="owned"</script>`
	script := `gethostbyname("guilty.badzone.test"); @file_get_contents($argv[1]); echo "<script>alert(2)</script>\x1b[2J\u{202e}";`
	h.StartAs(uid, "php", "-n", "-r", script, evil).Wait()
	h.Sender(harness.NewUID()).Raw("<script>document.title='owned'</script>.BADZONE.test")
	d.Stop()
	hit := d.Proven(t, "guilty.badzone.test")
	if t.Failed() {
		t.FailNow()
	}
	return evidence{serve(t, d.Evidence), hit.Event.ID, hit.Culprit.Capture.ID, hit.Culprit.Proof.Trace.ID}
}

// TestPages looks at all that was found of one hunt.
func TestPages(t *testing.T) {
	e := hunted(t)
	for name, test := range map[string]func(*testing.T, evidence){"shown": testPages, "keys": testKeys, "without script": testNoScript} {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

// pages are all kinds of pages.
func (e evidence) pages() map[string]string {
	return map[string]string{
		"hits": "/", "filtered": "/?name=badzone.test", "hit": "/hits/" + e.hit, "captures": "/captures", "capture": "/captures/" + e.capture,
		"losses": "/losses", "trace": "/traces/" + e.trace, "line": "/traces/" + e.trace + "?line=20", "search": "/traces/" + e.trace + "?q=open",
		"error": "/hits/nothing",
	}
}

// Whatever the hunted wrote is text: nothing of it runs, nothing is loaded from elsewhere, and every page can be used with a screen
// reader, on a narrow screen, and in the dark.
func testPages(t *testing.T, e evidence) {
	tester := axe(t)
	p := open(t, e.server, 1200)
	for name, path := range e.pages() {
		for _, scheme := range []string{"light", "dark"} {
			p.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
			p.visit(path)
			p.quiet(name)
			if title := ask[string](p, "document.title"); title == "owned" || title == "" {
				t.Errorf("%s: the title is %q", name, title)
			}
			p.do(chromedp.Evaluate(tester, nil))
			rules := "{}"
			if scheme == "dark" {
				rules = `{runOnly: ["color-contrast"]}` // the rest is as in the light
			}
			for _, v := range ask[[]string](p, `axe.run(`+rules+`).then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html.slice(0, 300) + " – " + n.failureSummary)))`) {
				t.Errorf("%s, %s: axe-core finds %s", name, scheme, v)
			}
			p.quiet(name + " with axe-core")
		}
		picture(p, name)
		p.do(emulation.SetDeviceMetricsOverride(400, 900, 1, true))
		p.visit(path)
		if width := ask[int](p, "document.scrollingElement.scrollWidth"); width > 400 {
			t.Errorf("%s is %d pixels wide on a screen of 400: %v", name, width, ask[[]string](p,
				`[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 401).slice(0, 5).map(e => e.outerHTML.slice(0, 120))`))
		}
		picture(p, name+"-400")
		p.do(emulation.ClearDeviceMetricsOverride())
	}
}

// picture takes a screenshot if the environment says where to.
func picture(p *page, name string) {
	dir := os.Getenv("CULPRIT_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	p.do(chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(dir+"/"+name+".png", png, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// One gets everywhere by keys.
func testKeys(t *testing.T, e evidence) {
	p := open(t, e.server, 1200)
	p.visit("/")
	p.press("j")
	first := ask[string](p, `document.querySelector("tr.here").dataset.id`)
	p.press("j")
	if second := ask[string](p, `document.querySelector("tr.here").dataset.id`); second == first {
		t.Error("j does not go down")
	}
	p.press("k")
	if again := ask[string](p, `document.querySelector("tr.here").dataset.id`); again != first {
		t.Error("k does not go up")
	}
	p.press(kb.Enter)
	const loaded = ` && document.readyState == "complete"` // with the script that takes keys
	p.until("Enter opens the hit", fmt.Sprintf(`location.pathname == "/hits/%s"`, first)+loaded)
	p.press("u")
	p.until("u goes back", `location.pathname == "/"`+loaded)
	p.press("/")
	if !ask[bool](p, `document.activeElement.matches("form input")`) {
		t.Error("/ does not go to the filters")
	}
	p.do(chromedp.KeyEvent("nosuchuser"), chromedp.KeyEvent(kb.Enter))
	p.until("a filter is asked for by Enter", `location.search.includes("nosuchuser")`)
	p.quiet("keys")
}

// Without JavaScript everything can be read.
func testNoScript(t *testing.T, e evidence) {
	p := open(t, e.server, 1200)
	p.do(emulation.SetScriptExecutionDisabled(true))
	for name, path := range e.pages() {
		p.visit(path)
		var text string
		p.do(chromedp.Text("body", &text, chromedp.ByQuery))
		want := map[string]string{
			"hits": "guilty.badzone.test", "filtered": "guilty.badzone.test", "hit": "guilty.badzone.test", "trace": "execve", "line": `.`, "search": "open",
		}[name]
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s does not say %q: %.500s", name, want, text)
		}
	}
}
