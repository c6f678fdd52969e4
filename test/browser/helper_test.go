package browser

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"culprit/test/harness"
)

// patience is how long a page may take on a machine that is busy.
const patience = 60 * time.Second

// A server is a `culprit serve` over the evidence of a daemon, on a port of this machine.
type server struct {
	t             testing.TB
	evidence      string
	address, file string // of the token
	cmd           *exec.Cmd
}

// serve starts a server. It ends with the test.
func serve(t testing.TB, evidence string) *server {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	dir := t.TempDir()
	s := &server{t: t, evidence: evidence, address: free.Addr().String(), file: dir + "/token"}
	if err := os.WriteFile(s.file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

const token = "0123456789abcdef0123456789abcdef"

func (s *server) start() {
	s.t.Helper()
	config := s.file + ".yaml"
	text := fmt.Sprintf("rules: [{name: a, string: BADZONE}]\nevidence: {dir: %s}\nserve: {listen: \"%s\", token_file: %s}\n", s.evidence, s.address, s.file)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(harness.Programs.Culprit, "serve", "-c", config)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	harness.Eventually(s.t, "culprit serve listens", func() error {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// at is the address of a page.
func (s *server) at(path string) string { return "http://" + s.address + path }

// A page is a tab of a real browser that has logged in.
type page struct {
	t      testing.TB
	ctx    context.Context
	server *server

	mu       sync.Mutex
	troubles []string // what the console said, and requests to elsewhere
}

// open starts a browser with a window of this width, and logs in.
func open(t testing.TB, s *server, width int, options ...chromedp.ExecAllocatorOption) *page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("this test needs Chromium, and CI must run it")
		}
		t.Skip("this test needs Chromium")
	}
	profile, err := os.MkdirTemp("", "culprit-browser-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	options = append([]chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-crash-reporter", true),
		chromedp.WindowSize(width, 900), chromedp.WSURLReadTimeout(patience),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		}),
	}, options...)
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	tab, closeTab := chromedp.NewContext(allocator)
	p := &page{t: t, ctx: tab, server: s}
	t.Cleanup(func() {
		var pid int
		if b := chromedp.FromContext(tab).Browser; b != nil && b.Process() != nil {
			pid = b.Process().Pid
		}
		closeTab()
		stop()
		cancel()
		if pid > 1 {
			syscall.Kill(-pid, syscall.SIGKILL) // its helpers
		}
		os.RemoveAll(profile)
	})
	chromedp.ListenTarget(tab, p.hear)
	p.do(network.Enable(), runtime.Enable(), log.Enable())
	p.visit("/login?token=" + url.QueryEscape(token))
	return p
}

// hear notes what must not be: errors, and requests to another server.
func (p *page) hear(event any) {
	trouble := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		trouble = e.ExceptionDetails.Error()
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError && e.Entry.Source != log.SourceNetwork {
			trouble = string(e.Entry.Source) + ": " + e.Entry.Text
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, p.server.at("/")) && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "about:") {
			trouble = "a request to " + u
		}
	case *target.EventTargetCreated:
		if e.TargetInfo.Type == "page" && e.TargetInfo.OpenerID != "" {
			trouble = "a window for " + e.TargetInfo.URL
		}
	}
	if trouble != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.troubles = append(p.troubles, trouble)
	}
}

// quiet fails the test if there was trouble.
func (p *page) quiet(what string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, trouble := range p.troubles {
		p.t.Errorf("%s: %s", what, trouble)
	}
	p.troubles = nil
}

func (p *page) do(actions ...chromedp.Action) {
	p.t.Helper()
	if err := p.try(actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) try(actions ...chromedp.Action) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	run := p.ctx // the first run starts the browser, which would end with ctx
	if chromedp.FromContext(p.ctx).Browser != nil {
		run = ctx
	}
	return chromedp.Run(run, actions...)
}

// visit goes to a page of the server.
func (p *page) visit(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.server.at(path)), chromedp.WaitReady("body", chromedp.ByQuery))
}

// ask returns what a JavaScript expression is.
func ask[T any](p *page, expression string) (value T) {
	p.t.Helper()
	value, err := tryAsk[T](p, expression)
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

func tryAsk[T any](p *page, expression string) (value T, err error) {
	err = p.try(chromedp.Evaluate(expression, &value, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
	return value, err
}

// until waits until an expression is true. A page that is just being left for another one does not answer: then it asks that.
func (p *page) until(what, expression string) {
	p.t.Helper()
	harness.Eventually(p.t, what, func() error {
		is, err := tryAsk[bool](p, expression)
		if err != nil || is {
			return err
		}
		where, err := tryAsk[string](p, `location.href + ": " + document.body.innerText`)
		return fmt.Errorf("%s is false on %.2000s (%v)", expression, where, err)
	})
}

// press presses a key.
func (p *page) press(key string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(key))
}

// axe is the program of axe-core 4.10.3 (npm package axe-core; Mozilla Public License 2.0, testdata/axe-LICENSE), which finds what
// hinders people who use a screen reader.
func axe(t *testing.T) string {
	t.Helper()
	f, err := os.Open("testdata/axe-4.10.3.min.js.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
