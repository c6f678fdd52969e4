package config

import (
	"strings"
	"testing"
)

// Evidence leaves the machine only encrypted, and only to who shows who it is.
func TestServeAddress(t *testing.T) {
	t.Parallel()
	tls := TLS{Cert: "/c", Key: "/k"}
	for _, c := range []struct {
		serve                 Serve
		network, address, err string
	}{
		{Serve{Listen: "unix:/run/x/s.sock"}, "unix", "/run/x/s.sock", ""},
		{Serve{Listen: "127.0.0.1:1"}, "tcp", "127.0.0.1:1", ""},
		{Serve{Listen: "[::1]:1"}, "tcp", "[::1]:1", ""},
		{Serve{Listen: ""}, "", "", "is not an address"},
		{Serve{Listen: "localhost:1"}, "", "", "is not an address"},
		{Serve{Listen: "127.0.0.1:0"}, "", "", "has no port"},
		{Serve{Listen: "unix:s.sock"}, "", "", "absolute path"},
		{Serve{Listen: "0.0.0.0:1"}, "", "", "serve.tls.cert"},
		{Serve{Listen: "0.0.0.0:1", TokenFile: "/t"}, "", "", "serve.tls.cert"},
		{Serve{Listen: "192.0.2.1:1", TLS: tls}, "", "", "serve.token_file"},
		{Serve{Listen: "192.0.2.1:1", TLS: tls, TokenFile: "/t"}, "tcp", "192.0.2.1:1", ""},
		{Serve{Listen: "192.0.2.1:1", TLS: TLS{"/c", "/k", "/ca"}}, "tcp", "192.0.2.1:1", ""},
	} {
		network, address, err := c.serve.Address()
		if network != c.network || address != c.address || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q %q %v", c.serve, network, address, err)
		}
	}
}

func TestServeFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"tls: {cert: /c}":            "serve.tls.key",
		"tls: {key: /k}":             "serve.tls.cert",
		"tls: {client_ca: /a}":       "serve.tls.cert",
		"tls: {cert: c, key: /k}":    "serve.tls.cert",
		"token_file: t":              "serve.token_file",
		"listen: \"0.0.0.0:9358\"":   "serve.listen",
		"tls: {cert: /c, key: /k}":   "",
		"listen: \"127.0.0.1:9358\"": "",
	} {
		_, err := Parse("f", []byte("rules: [{name: a, string: b}]\nserve: {"+text+"}"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
