package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

// certificate writes a certificate for 127.0.0.1, also of a client, that is its own authority, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	what := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, what, what, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: raw},
		"key":  {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert"), filepath.Join(dir, "key")
}

// A server must have a certificate of an authority that is trusted, or nobody talks to it; and one that wants certificates of
// clients gets them.
func TestConnectTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	s := natsserver.Start(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", cert, key, cert))
	plain := natsserver.Start(t, "")
	safe := func(s *natsserver.Server) []string { return []string{strings.Replace(s.URL, "nats:", "tls:", 1)} }
	c, err := Connect(t.Context(), config.Fleet{Servers: safe(s), Name: "f", TLS: config.FleetTLS{CA: cert, Cert: cert, Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.TLSConnectionState(); err != nil {
		t.Error(err)
	}
	for want, fleet := range map[string]config.Fleet{
		"certificate signed by unknown authority": {Servers: safe(s), TLS: config.FleetTLS{Cert: cert, Key: key}},
		"tls":                             {Servers: safe(s), TLS: config.FleetTLS{CA: cert}},
		"secure connection not available": {Servers: safe(plain), TLS: config.FleetTLS{CA: cert}},
		"no such file":                    {Servers: safe(s), TLS: config.FleetTLS{CA: "/no/file"}},
	} {
		c, err := Connect(t.Context(), fleet)
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", fleet, err, want)
		}
	}
}
