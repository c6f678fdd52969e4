package report

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a real headless Chromium.
type browser struct {
	t    *testing.T
	path string
}

func newBrowser(t *testing.T) browser {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return browser{t, path}
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs Chromium, and CI must run it")
	}
	t.Skip("this test needs Chromium")
	return browser{}
}

// open loads a file in a window of this width and returns what the browser prints:
// the document, and what was logged.
func (b browser) open(file string, width int, args ...string) (stdout, stderr string) {
	b.t.Helper()
	dir, err := os.MkdirTemp("", "culprit-report-")
	if err != nil {
		b.t.Fatal(err)
	}
	// Not t.TempDir: helpers of a browser that has ended may still write there.
	b.t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	args = append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-crash-reporter",
		"--disable-background-networking", "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=1000", "--user-data-dir=" + dir,
		fmt.Sprintf("--window-size=%d,1600", width),
	}, args...)
	cmd := exec.CommandContext(ctx, b.path, append(args, (&url.URL{Scheme: "file", Path: file}).String())...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", cmd, err, log.String())
	}
	return out.String(), log.String()
}

// picture takes a screenshot.
func (b browser) picture(file string, width int, args ...string) image.Image {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "picture.png")
	_, log := b.open(file, width, append(args, "--screenshot="+path)...)
	noConsole(b.t, log)
	f, err := os.Open(path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		b.t.Fatal(err)
	}
	return picture
}

func noConsole(t *testing.T, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if strings.Contains(line, "CONSOLE") {
			t.Error(line)
		}
	}
}

// What only a browser can tell: that its policy lets the page have its style, that
// nothing of an adversary runs even without the policy, that no width makes the page
// scroll sideways, that there is a light and a dark face.
func TestBrowser(t *testing.T) {
	b := newBrowser(t)
	dir := t.TempDir()
	const lightArg, darkArg = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
	// Without the policy, scripts run: this one measures, and so would an adversary's.
	const measure = `<script>const d = document.documentElement, out = [];
for (const e of document.querySelectorAll("body *")) if (e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("pre, svg.timeline, thead")) out.push(e.tagName + "." + e.className);
parent.postMessage("measured " + innerWidth + " " + d.scrollWidth + " " + (d.dataset.owned || "safe") + " " + getComputedStyle(document.body).margin + " [" + out.slice(0, 5) + "]", "*");
console.log("heard");</script></body>`
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)
	for name, c := range map[string]*Case{"cron": cron(), "hostile": poisoned(), "crowd": crowd(1000, 10_000)} {
		t.Run(name, func(t *testing.T) {
			b := browser{t, b.path}
			page, _ := render(t, c)
			if len(policy.FindAllString(page, -1)) != 1 {
				t.Fatal("there is not one policy")
			}
			real, probe, guarded := filepath.Join(dir, name+".html"), filepath.Join(dir, name+"-probe.html"), filepath.Join(dir, name+"-guarded.html")
			for path, s := range map[string]string{
				real:    page,
				probe:   strings.Replace(policy.ReplaceAllString(page, ""), "</body>", measure, 1),
				guarded: strings.Replace(page, "</body>", measure, 1),
			} {
				if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, width := range []int{400, 1200} {
				// A window cannot be as narrow as a telephone, but a frame can.
				frame := filepath.Join(dir, "frame.html")
				html := fmt.Sprintf(`<script>onmessage = e => document.title = e.data</script><iframe width=%d height=900 style="border: 0" src="%s"></iframe>`, width, filepath.Base(probe))
				if err := os.WriteFile(frame, []byte(html), 0o600); err != nil {
					t.Fatal(err)
				}
				dom, log := b.open(frame, 1300, "--dump-dom")
				if want := fmt.Sprintf("<title>measured %d %d safe 0px []</title>", width, width); !strings.Contains(dom, want) {
					t.Errorf("want %s in %s", want, regexp.MustCompile(`<title>.*?</title>`).FindString(dom))
				}
				if !strings.Contains(log, "heard") {
					t.Error("the console is not heard")
				}
				light, dark := b.picture(real, width, lightArg), b.picture(real, width, darkArg)
				if l, d := brightness(light), brightness(dark); l < 0xd000 || d > 0x4000 {
					t.Errorf("light is %#x, dark is %#x of 0xffff", l, d)
				}
			}
			_, log := b.open(guarded, 400, "--dump-dom")
			if strings.Contains(log, "heard") || !strings.Contains(log, "Content Security Policy") {
				t.Error("the policy lets a script run")
			}
			if name == "cron" {
				pdf := filepath.Join(dir, name+".pdf")
				_, log := b.open(real, 1200, "--print-to-pdf="+pdf)
				noConsole(t, log)
				if st, err := os.Stat(pdf); err != nil || st.Size() < 10_000 {
					t.Errorf("it cannot be printed: %v", err)
				}
			}
		})
	}
}

// brightness is that of the page's margin.
func brightness(i image.Image) uint32 {
	r, g, b, _ := i.At(2, 2).RGBA()
	return (r + g + b) / 3
}
