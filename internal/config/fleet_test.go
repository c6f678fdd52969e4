package config

import (
	"strings"
	"testing"
)

const signingKey = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"

func TestFleet(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"servers: [tls://nats1.example.com:4222, 'nats://127.0.0.1', 'nats://[::1]:4222']": "",
		"servers: tls://a:1, host: web1.example.com, credentials: /etc/culprit/host.nk":    "",
		"servers: tls://a:1, bundles: proven, accept: [rules, lists], keys: " + signingKey: "",
		"servers: [nats://nats1.example.com:4222]":                                         "fleet.servers[0]: \"nats://nats1.example.com:4222\" would be reached without encryption",
		"servers: [tls://me:secret@a:1]":                                                   "has a user or a password",
		"servers: [https://a:1, a]":                                                        "fleet.servers[1]: \"a\" is not the address",
		"name: a_b":                                                                        "fleet.name: \"a_b\"",
		"host: web_1":                                                                      "fleet.host: \"web_1\"",
		"host: -web":                                                                       "fleet.host: \"-web\"",
		"credentials: host.nk":                                                             "fleet.credentials: \"host.nk\" is not an absolute path",
		"credentials: /host.txt":                                                           "is neither a .creds file",
		"tls: {cert: /c}":                                                                  "fleet.tls.key: is missing",
		"tls: {key: /k}":                                                                   "fleet.tls.cert: is missing",
		"accept: [users]":                                                                  "fleet.accept[0]: \"users\" is not known",
		"servers: tls://a:1, accept: rules":                                                "fleet.keys: is empty",
		"keys: [abc]":                                                                      "fleet.keys[0]: \"abc\" is not a public key",
		"max_waiting: 1KiB":                                                                "fleet.max_waiting: 1KiB is out of range; allowed: 64KiB to 64GiB",
		"bundles: sometimes":                                                               "fleet.bundles",
		"dir: here":                                                                        "fleet.dir",
	} {
		_, err := Parse("f", []byte("rules: [{name: a, string: b}]\nfleet: {"+text+"}"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is shown: %v", err)
		}
	}
}
