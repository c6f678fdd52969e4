package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Serve says where `culprit serve` shows the evidence, and to whom. The daemon does not use it.
type Serve struct {
	// Listen is "unix:" and the path of a socket, or an address with a port.
	Listen string `mapstructure:"listen"`
	TLS    TLS    `mapstructure:"tls"`
	// TokenFile has the token that a browser must show on a port. Without it there is a new one at each start.
	TokenFile string `mapstructure:"token_file"`
}

// TLS are files in PEM.
type TLS struct {
	Cert string `mapstructure:"cert"`
	Key  string `mapstructure:"key"`
	// ClientCA has the authorities whose certificates a browser can show instead of the token.
	ClientCA string `mapstructure:"client_ca"`
}

// Address returns what to listen on, in the terms of package net: network "unix" or "tcp". Outside of this
// machine it allows only what is encrypted and asks who it is.
func (s Serve) Address() (network, address string, err error) {
	if path, ok := strings.CutPrefix(s.Listen, "unix:"); ok {
		if err := socketPath(path, "unix:/run/culprit-serve/serve.sock"); err != nil {
			return "", "", err
		}
		return "unix", path, nil
	}
	a, err := netip.ParseAddrPort(s.Listen)
	switch {
	case err != nil || a.Addr().Zone() != "":
		return "", "", fmt.Errorf("%q is not an address to listen on; write unix:/run/culprit-serve/serve.sock, 127.0.0.1:9358 or \"[::1]:9358\"", s.Listen)
	case a.Port() == 0:
		return "", "", fmt.Errorf("%q has no port; write 127.0.0.1:9358", s.Listen)
	case !a.Addr().IsLoopback() && s.TLS.Cert == "":
		return "", "", fmt.Errorf("%q can be reached from other machines: set serve.tls.cert and serve.tls.key, or listen on a unix: socket or 127.0.0.1", s.Listen)
	case !a.Addr().IsLoopback() && s.TLS.ClientCA == "" && s.TokenFile == "":
		return "", "", fmt.Errorf("%q can be reached from other machines: set serve.token_file or serve.tls.client_ca, so that not everybody reads the evidence", s.Listen)
	}
	return "tcp", a.String(), nil
}

func (s Serve) validate(ps *problems) {
	if _, _, err := s.Address(); err != nil {
		ps.add("serve.listen", "%v", err)
	}
	for key, path := range map[string]string{
		"serve.tls.cert": s.TLS.Cert, "serve.tls.key": s.TLS.Key, "serve.tls.client_ca": s.TLS.ClientCA, "serve.token_file": s.TokenFile,
	} {
		if path != "" && !filepath.IsAbs(path) {
			ps.add(key, "%q is not an absolute path", path)
		}
	}
	switch {
	case s.TLS.Cert != "" && s.TLS.Key == "":
		ps.add("serve.tls.key", "is missing: serve.tls.cert needs it")
	case s.TLS.Cert == "" && s.TLS.Key != "":
		ps.add("serve.tls.cert", "is missing: serve.tls.key needs it")
	case s.TLS.Cert == "" && s.TLS.ClientCA != "":
		ps.add("serve.tls.cert", "is missing: serve.tls.client_ca needs it")
	}
}
