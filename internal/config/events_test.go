package config

import (
	"strings"
	"testing"
)

func TestOTLP(t *testing.T) {
	const otherWays = "rules: [{name: a, string: b}]\nevents: {otlp: {"
	for text, want := range map[string]string{
		"endpoint: https://otel.example:4318":              "https://otel.example:4318/v1/logs",
		"endpoint: https://otel.example/otlp/":             "https://otel.example/otlp/v1/logs",
		"endpoint: https://otel.example/a/v1/logs":         "https://otel.example/a/v1/logs",
		"endpoint: 'http://127.0.0.1:4318'":                "http://127.0.0.1:4318/v1/logs",
		"endpoint: 'http://[::1]:4318', compression: none": "http://[::1]:4318/v1/logs",
		"endpoint: http://localhost:4318, timeout: 1m":     "http://localhost:4318/v1/logs",
	} {
		c, err := Parse("f", []byte(otherWays+text+"}}"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := c.Events.OTLP.URL(); got != want || err != nil {
			t.Errorf("%s: goes to %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"endpoint: http://otel.example:4318":                   "clear text",
		"endpoint: 'http://127.0.0.1.example:4318'":            "clear text",
		"endpoint: https://a:b@otel.example":                   "events.otlp.headers_file",
		"endpoint: otel.example:4318":                          "not the address of a collector",
		"endpoint: 'grpc://otel.example:4317'":                 "not the address of a collector",
		"endpoint: 'https://otel.example/?key=secret'":         "not the address of a collector",
		"headers_file: /h":                                     "events.otlp.headers_file: needs events.otlp.endpoint",
		"endpoint: https://a, headers_file: h":                 "events.otlp.headers_file: \"h\" is not an absolute path",
		"endpoint: https://a, cert: /c":                        "events.otlp.key: is missing",
		"endpoint: https://a, key: /k":                         "events.otlp.cert: is missing",
		"endpoint: https://a, compression: zstd":               "allowed: gzip, none",
		"endpoint: https://a, timeout: 1ms":                    "events.otlp.timeout",
		"endpoint: https://a}, file: /f, otlp: {endpoint: 'x'": "f", // twice: not YAML
	} {
		_, err := Parse("f", []byte(otherWays+text+"}}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("f", []byte("rules: [{name: a, string: b}]\nevents: {file: /f, otlp: {endpoint: https://a}}")); err == nil || !strings.Contains(err.Error(), "has 2 of file, journald, command and otlp") {
		t.Errorf("two ways: error %v", err)
	}
}
