package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

const (
	servedAt   = "192.0.2.7:9358" // as of another machine
	serveToken = "0123456789abcdef0123456789abcdef"
)

// Over TLS a browser gets in by the token or by a certificate, by nothing else; and what was renewed counts without a restart.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	h.Must(t, "ip", "addr", "add", "192.0.2.7/32", "dev", "lo")
	d := h.Hunt("")
	h.Sender(harness.NewUID()).Ask("guilty.badzone.test")
	d.Hit("guilty.badzone.test")
	d.Stop()

	dir := t.TempDir()
	ours, others, next := newAuthority(t, "ours"), newAuthority(t, "others"), newAuthority(t, "next")
	now := time.Now()
	put := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	renew := func(serial int64) {
		t.Helper()
		cert, key := ours.issue(t, serial, now.Add(time.Hour))
		put("cert", cert)
		put("key", key)
	}
	renew(7)
	put("ca", ours.pem)
	put("token", []byte(serveToken))
	of := func(a authority, until time.Time) *tls.Certificate {
		t.Helper()
		pair, err := tls.X509KeyPair(a.issue(t, 1, until))
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
	good, expired, foreign, later := of(ours, now.Add(time.Hour)), of(ours, now.Add(-time.Minute)), of(others, now.Add(time.Hour)), of(next, now.Add(time.Hour))
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+serveToken) }

	type request struct {
		what   string
		cert   *tls.Certificate
		path   string
		change func(*http.Request)
		status int    // 0: there is no answer
		says   string // of the error
	}
	for _, c := range []struct {
		name, settings string
		asked          []request
	}{
		{"by token", "token_file: " + dir + "/token", []request{
			{"the token", nil, "/", bearer, 200, ""},
			{"nothing", nil, "/", nil, 401, ""},
			{"another token", nil, "/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+serveToken+"0") }, 401, ""},
			{"the token in the address of a page", nil, "/?token=" + serveToken, nil, 401, ""},
			{"the token as a password", nil, "/", func(r *http.Request) { r.SetBasicAuth("root", serveToken) }, 401, ""},
			{"the token as the cookie", nil, "/", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "culprit", Value: serveToken}) }, 401, ""},
			{"the token in another header", nil, "/", func(r *http.Request) { r.Header.Set("X-Token", serveToken) }, 401, ""},
			{"the token for a name that is not ours", nil, "/", func(r *http.Request) { bearer(r); r.Host = "evil.example" }, 421, ""},
			{"the token for the name of the certificate", nil, "/", func(r *http.Request) { bearer(r); r.Host = "culprit.example" }, 200, ""},
			{"a certificate, which was not asked for", good, "/", nil, 401, ""},
		}},
		{"by certificate", "tls: {client_ca: " + dir + "/ca}", []request{
			{"the certificate", good, "/", nil, 200, ""},
			{"no certificate", nil, "/", nil, 0, "certificate required"},
			{"no certificate, but a token", nil, "/", bearer, 0, "certificate required"},
			{"an expired certificate", expired, "/", nil, 0, "expired certificate"},
			{"a certificate of others", foreign, "/", nil, 0, "unknown certificate authority"},
		}},
		{"by either", "token_file: " + dir + "/token, tls: {client_ca: " + dir + "/ca}", []request{
			{"the certificate", good, "/", nil, 200, ""},
			{"the token", nil, "/", bearer, 200, ""},
			{"nothing", nil, "/", nil, 401, ""},
			{"an expired certificate and the token", expired, "/", bearer, 0, "expired certificate"},
			{"a certificate of others and the token", foreign, "/", bearer, 0, "unknown certificate authority"},
		}},
	} {
		own := fmt.Sprintf("cert: %[1]s/cert, key: %[1]s/key", dir)
		settings := c.settings
		if strings.Contains(settings, "tls: {") {
			settings = strings.Replace(settings, "tls: {", "tls: {"+own+", ", 1)
		} else {
			settings += ", tls: {" + own + "}"
		}
		s := serveOn(t, h, d.Evidence, fmt.Sprintf("serve: {listen: %q, %s}", servedAt, settings))
		for _, r := range c.asked {
			status, _, err := s.ask(r.path, ours, r.cert, r.change)
			switch {
			case r.status == 0 && (err == nil || !strings.Contains(err.Error(), r.says)):
				t.Errorf("%s, %s: %d, %v, want an error: %s", c.name, r.what, status, err, r.says)
			case r.status != 0 && (err != nil || status != r.status):
				t.Errorf("%s, %s: %d, %v, want %d", c.name, r.what, status, err, r.status)
			}
		}
		if answer := s.plain(); !strings.Contains(answer, "400 Bad Request") || strings.Contains(answer, "guilty") {
			t.Errorf("%s, without TLS: %s", c.name, answer)
		}
		s.stop()
	}

	s := serveOn(t, h, d.Evidence, fmt.Sprintf("serve: {listen: %q, tls: {cert: %[2]s/cert, key: %[2]s/key, client_ca: %[2]s/ca}}", servedAt, dir))
	serves := func(what string, serial int64, trusted authority, cert *tls.Certificate) {
		t.Helper()
		status, is, err := s.ask("/", trusted, cert, nil)
		if err != nil || status != 200 || is != serial {
			t.Errorf("%s: %d, serial number %d, %v; want 200 and %d", what, status, is, err, serial)
		}
	}
	serves("at the begin", 7, ours, good)
	renew(8)
	serves("renewed", 8, ours, good)
	put("cert", []byte("half writ"))
	serves("while the renewed one is broken", 8, ours, good)
	s.logs("the changed certificate cannot be used")
	renew(9)
	serves("renewed again", 9, ours, good)
	put("ca", next.pem)
	serves("by the next authority", 9, ours, later)
	if status, _, err := s.ask("/", ours, good, nil); err == nil {
		t.Errorf("the authority is gone, and its certificate gets %d", status)
	}
}

// What other machines reach is refused without TLS, and with it without who may come in.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := t.TempDir()
	cert, key := newAuthority(t, "ours").issue(t, 1, time.Now().Add(time.Hour))
	for name, content := range map[string][]byte{"cert": cert, "key": key, "ca": []byte("no certificate")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for settings, says := range map[string]string{
		"listen: \"0.0.0.0:9358\"":                                                     "can be reached from other machines: set serve.tls.cert",
		"listen: \"[::]:9358\"":                                                        "can be reached from other machines: set serve.tls.cert",
		"listen: \"192.0.2.7:9358\", token_file: /x":                                   "can be reached from other machines: set serve.tls.cert",
		"listen: \"192.0.2.7:9358\", tls: {cert: D/cert, key: D/key}":                  "set serve.token_file or serve.tls.client_ca",
		"listen: \"127.0.0.1:9358\", tls: {cert: D/cert, key: D/cert}":                 "load the certificate",
		"listen: \"127.0.0.1:9358\", tls: {cert: D/gone, key: D/key}":                  "no such file",
		"listen: \"127.0.0.1:9358\", tls: {cert: D/cert}":                              "serve.tls.key",
		"listen: \"127.0.0.1:9358\", tls: {client_ca: D/ca}":                           "serve.tls.cert",
		"listen: \"127.0.0.1:9358\", tls: {cert: D/cert, key: D/key, client_ca: D/ca}": "has no certificate in PEM",
	} {
		config, _ := h.Configure("serve: {" + strings.ReplaceAll(settings, "D/", dir+"/") + "}")
		r := h.Culprit("serve", "-c", config)
		if r.Code == 0 || !strings.Contains(r.Errors, says) {
			t.Errorf("%s: exit status %d, and not %q:\n%s", settings, r.Code, says, r.Errors)
		}
	}
	config, _ := h.Configure("")
	h.Culprit("serve", "-c", config, "--listen", "192.0.2.7:9358").Fails(t, 2, "can be reached from other machines")
}

// served is a culprit serve in the namespaces of a host.
type served struct {
	t    *testing.T
	h    *harness.Host
	cmd  *exec.Cmd
	errs *harness.Buffer
	once bool
}

func serveOn(t *testing.T, h *harness.Host, evidence, settings string) *served {
	t.Helper()
	config := h.ConfigureIn(evidence, settings)
	s := &served{t: t, h: h, cmd: exec.Command(harness.Programs.Culprit, "serve", "-c", config), errs: &harness.Buffer{}}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = s.errs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(s.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if !strings.Contains(line, "is shown at https://"+servedAt+"/\n") {
		t.Fatalf("it said %q, %v: %s", line, err, s.errs)
	}
	return s
}

func (s *served) stop() {
	if s.once {
		return
	}
	s.once = true
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("culprit serve: %v: %s", err, s.errs)
	}
}

func (s *served) logs(text string) {
	s.t.Helper()
	harness.Eventually(s.t, text, func() error {
		if !strings.Contains(s.errs.String(), text) {
			return fmt.Errorf("it logs %s", s.errs)
		}
		return nil
	})
}

func (s *served) dial(context.Context, string, string) (c net.Conn, err error) {
	s.h.Do(func() { c, err = net.Dial("tcp", servedAt) })
	return c, err
}

// ask asks by a connection of its own. It returns the status, and the serial number of the server's certificate.
func (s *served) ask(path string, trusted authority, cert *tls.Certificate, change func(*http.Request)) (status int, serial int64, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), harness.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+servedAt+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	roots := x509.NewCertPool()
	roots.AddCert(trusted.cert)
	secure := &tls.Config{RootCAs: roots}
	if cert != nil { // also one that the server does not want
		secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	answer, err := (&http.Transport{DialContext: s.dial, TLSClientConfig: secure, DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if is := strings.Contains(string(body), "guilty.badzone.test"); is != (answer.StatusCode == http.StatusOK) {
		s.t.Errorf("%d shows the evidence: %t", answer.StatusCode, is)
	}
	return answer.StatusCode, answer.TLS.PeerCertificates[0].SerialNumber.Int64(), err
}

// plain asks without TLS.
func (s *served) plain() string {
	s.t.Helper()
	c, err := s.dial(s.t.Context(), "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(harness.Patience))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", servedAt, serveToken)
	answer, err := io.ReadAll(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(answer)
}
