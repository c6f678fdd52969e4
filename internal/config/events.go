package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// OTLP says which collector of OpenTelemetry events are sent to. Its keys mean what the variables
// OTEL_EXPORTER_OTLP_* mean.
type OTLP struct {
	Endpoint    string        `mapstructure:"endpoint"`     // empty: none
	HeadersFile string        `mapstructure:"headers_file"` // lines "Name: value"
	CA          string        `mapstructure:"ca"`           // certificates in PEM; empty: the system's
	Cert        string        `mapstructure:"cert"`         // our own
	Key         string        `mapstructure:"key"`
	Compression string        `mapstructure:"compression"`
	Timeout     time.Duration `mapstructure:"timeout"` // of a request
}

// Formats of events.
const (
	FormatECS  = "ecs"  // the Elastic Common Schema
	FormatOCSF = "ocsf" // the Open Cybersecurity Schema Framework
)

// How requests of [OTLP] are compressed.
const (
	CompressionGzip = "gzip"
	CompressionNone = "none"
)

// logsPath is where a collector takes logs, below its endpoint.
const logsPath = "/v1/logs"

// URL returns where the logs go: the endpoint and /v1/logs, unless it ends with that. It allows
// clear text only within this machine.
func (o OTLP) URL() (string, error) {
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%q is not the address of a collector; write https://otel.example:4318", o.Endpoint)
	case u.User != nil:
		return "", errors.New("has a password: write it into events.otlp.headers_file, as Authorization: Basic …")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", fmt.Errorf("%q sends evidence to another machine in clear text: use https://, or a collector on this machine, http://127.0.0.1:4318", o.Endpoint)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if !strings.HasSuffix(u.Path, logsPath) {
		u.Path += logsPath
	}
	return u.String(), nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || host == "localhost"
}

func (o OTLP) validate(ps *problems) {
	if o.Endpoint == "" {
		for key, given := range map[string]string{"headers_file": o.HeadersFile, "ca": o.CA, "cert": o.Cert, "key": o.Key} {
			if given != "" {
				ps.add("events.otlp."+key, "needs events.otlp.endpoint")
			}
		}
	} else if _, err := o.URL(); err != nil {
		ps.add("events.otlp.endpoint", "%v", err)
	}
	for key, path := range map[string]string{"headers_file": o.HeadersFile, "ca": o.CA, "cert": o.Cert, "key": o.Key} {
		if path != "" && !filepath.IsAbs(path) {
			ps.add("events.otlp."+key, "%q is not an absolute path", path)
		}
	}
	switch {
	case o.Cert != "" && o.Key == "":
		ps.add("events.otlp.key", "is missing: events.otlp.cert needs it")
	case o.Cert == "" && o.Key != "":
		ps.add("events.otlp.cert", "is missing: events.otlp.key needs it")
	}
	ps.oneOf("events.otlp.compression", o.Compression, CompressionGzip, CompressionNone)
	ps.lasts("events.otlp.timeout", o.Timeout, time.Second, 10*time.Minute)
}

func (e Events) validate(ps *problems) {
	ps.oneOf("events.format", e.Format, FormatECS, FormatOCSF)
	ways := 0
	if e.File != "" {
		ways++
		if !filepath.IsAbs(e.File) {
			ps.add("events.file", "%q is not an absolute path", e.File)
		}
	}
	if e.Journald {
		ways++
	}
	if len(e.Command) > 0 {
		ways++
		if !filepath.IsAbs(e.Command[0]) {
			ps.add("events.command[0]", "%q is not an absolute path", e.Command[0])
		}
	}
	if e.OTLP.Endpoint != "" {
		ways++
	}
	e.OTLP.validate(ps)
	if ways > 1 {
		ps.add("events", "has %d of file, journald, command and otlp; give one at most", ways)
	}
}

func (e Events) same(as Events) bool {
	return e.Format == as.Format && e.File == as.File && e.Journald == as.Journald && slices.Equal(e.Command, as.Command) && e.OTLP == as.OTLP
}
