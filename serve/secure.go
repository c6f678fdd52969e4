package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"

	"culprit/internal/config"
)

// Secure is what a server needs to speak TLS. It reads its files again when they have changed, at the next connection: a
// renewed certificate needs no restart. While those that are there now cannot be used, it goes on with those that it has.
type Secure struct {
	files    config.TLS
	required bool // a certificate of the client; if not, one that comes is verified
	log      *slog.Logger

	mu    sync.Mutex
	tried []stamp // the files when they were last read
	now   *tls.Config
}

// stamp tells whether a file is still the same.
type stamp struct {
	changed, made syscall.Timespec
	device, inode uint64
	size          int64
}

// NewSecure reads the files. With an authority for clients, required says that nobody comes in without a certificate of it.
func NewSecure(files config.TLS, required bool, log *slog.Logger) (*Secure, error) {
	s := &Secure{files: files, required: required && files.ClientCA != "", log: log}
	s.tried = s.stamps()
	var err error
	s.now, err = s.read()
	return s, err
}

// Required reports whether a client needs a certificate.
func (s *Secure) Required() bool { return s.required }

// config returns a configuration that follows the files.
func (s *Secure) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(), nil }}
}

// certificate is our own, as it is now.
func (s *Secure) certificate() *x509.Certificate { return s.current().Certificates[0].Leaf }

// current returns what to speak TLS with now.
func (s *Secure) current() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is := s.stamps(); !slices.Equal(is, s.tried) {
		s.tried = is // what changes from here on is seen the next time
		if fresh, err := s.read(); err != nil {
			s.log.Warn("the changed certificate cannot be used: the earlier one stays", "error", err)
		} else {
			s.now = fresh
			s.log.Info("the certificate was read again", "expires", fresh.Certificates[0].Leaf.NotAfter)
		}
	}
	return s.now
}

func (s *Secure) stamps() (all []stamp) {
	for _, name := range []string{s.files.Cert, s.files.Key, s.files.ClientCA} {
		var one stamp
		if info, err := os.Stat(name); err == nil {
			st := info.Sys().(*syscall.Stat_t)
			one = stamp{st.Ctim, st.Mtim, uint64(st.Dev), st.Ino, st.Size}
		}
		all = append(all, one)
	}
	return all
}

func (s *Secure) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	if err != nil {
		return nil, fmt.Errorf("serve.tls: load the certificate %s: %w", s.files.Cert, err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true, // or a client could come in by a certificate of an authority that is gone
	}
	if s.files.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(s.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("serve.tls.client_ca: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("serve.tls.client_ca: " + s.files.ClientCA + " has no certificate in PEM")
	}
	if s.required {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}
