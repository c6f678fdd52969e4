package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

// pages are those of culprit serve --fleet.
type pages struct {
	*harness.Process
	t      *testing.T
	token  string
	client *http.Client
}

// browse starts culprit serve --fleet, which keeps a mirror up to date.
func (s *site) browse(mirror string) *pages {
	s.t.Helper()
	p := &pages{t: s.t, client: &http.Client{Transport: &http.Transport{
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) { return s.Dial(network, address) },
	}}}
	p.Process = s.StartCommandAs(0, exec.Command(harness.Programs.Culprit, "serve", "--fleet", "--servers", servers, "--credentials", s.nkey("reader"),
		"--mirror", mirror, "--listen", "127.0.0.1:9358"))
	p.Said("is shown at", 1)
	_, token, _ := strings.Cut(strings.TrimSpace(p.Output.String()), "token=")
	p.token, _, _ = strings.Cut(token, "\n")
	s.t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// shows waits until a page has all of some texts.
func (p *pages) shows(path string, texts ...string) {
	p.t.Helper()
	harness.Eventually(p.t, "the page "+path, func() error {
		r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://127.0.0.1:9358"+path, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+p.token)
		answer, err := p.client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		for _, text := range texts {
			if err == nil && !strings.Contains(string(body), text) {
				err = fmt.Errorf("%s, without %q: %s", answer.Status, text, body)
			}
		}
		return err
	})
}

func (p *pages) end() {
	p.Signal(syscall.SIGTERM)
	p.Wait()
}

// newNetwork makes a site whose server hosts elsewhere reach by TLS, each by a link of its own. On the site itself
// TLS does without, as the address is that of the loopback device.
func newNetwork(t *testing.T, hosts ...string) *site {
	t.Helper()
	var addresses []net.IP
	for i := range hosts {
		addresses = append(addresses, net.ParseIP(hub(i)))
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	what := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: addresses,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, what, what, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := newSiteWith(t, func(s *site) string {
		cert := s.Write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})))
		key := s.Write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
		return fmt.Sprintf("listen: \"0.0.0.0:4222\"\nallow_non_tls: true\ntls { cert_file: %q, key_file: %q }\n", cert, key)
	}, hosts...)
	return s
}

// hub is the address of the server for the host with that number.
func hub(i int) string { return fmt.Sprintf("192.0.2.%d", 16*i+1) }

// link connects a host with the server: its end is called up0.
func (s *site) link(h *harness.Host, i int) {
	s.t.Helper()
	end := h.Idle(0) // whose namespace ip can name
	down := fmt.Sprint("down", i)
	s.Must(s.t, "ip", "link", "add", down, "type", "veth", "peer", "name", "up0", "netns", fmt.Sprint(end.PID))
	s.Must(s.t, "ip", "address", "add", hub(i)+"/28", "dev", down)
	s.Must(s.t, "ip", "link", "set", down, "up")
	h.Must(s.t, "ip", "address", "add", fmt.Sprintf("192.0.2.%d/28", 16*i+2), "dev", "up0")
	h.Must(s.t, "ip", "link", "set", "up0", "up")
}

// blockBy is the fleet in the configuration of the host with that number, which comes by its link.
func (s *site) blockBy(host string, i int) string {
	block := strings.Replace(s.blockOf(host, ""), servers, fmt.Sprintf("tls://%s:4222", hub(i)), 1)
	return strings.Replace(block, "fleet: {", fmt.Sprintf("fleet: {tls: {ca: %s}, ", filepath.Join(s.Dir, "cert.pem")), 1)
}
