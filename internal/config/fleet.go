package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Fleet says where this host sends its events, and which rules it takes from there.
type Fleet struct {
	// Servers are URLs: tls://, or nats:// on this machine. None: there is no fleet.
	Servers []string `mapstructure:"servers"`
	Name    string   `mapstructure:"name"`
	// Host is how the fleet calls this host; empty: as the machine is called.
	Host        string   `mapstructure:"host"`
	Credentials string   `mapstructure:"credentials"` // a file: .creds, or .nk with the seed of an NKey
	TLS         FleetTLS `mapstructure:"tls"`
	Bundles     string   `mapstructure:"bundles"` // one of the Bundles constants
	// MaxWaiting bounds the events that wait for the servers.
	MaxWaiting Bytes `mapstructure:"max_waiting"`
	// Accept are what of the fleet's sets may be put in force here; Keys are the minisign keys that sign them.
	Accept []string `mapstructure:"accept"`
	Keys   []string `mapstructure:"keys"`
	Dir    string   `mapstructure:"dir"` // evidence of all hosts, for those who look
}

// FleetTLS are files in PEM.
type FleetTLS struct {
	CA   string `mapstructure:"ca"` // the authorities of the servers; empty: those of the system
	Cert string `mapstructure:"cert"`
	Key  string `mapstructure:"key"`
}

// The values of fleet.bundles: which captures leave this host with their traces.
const (
	BundlesNever   = "never"
	BundlesRequest = "request" // those that somebody asks for
	BundlesProven  = "proven"  // also each one with a proof
	BundlesAll     = "all"
)

// The values of fleet.accept.
const (
	AcceptRules = "rules"
	AcceptLists = "lists"
)

// Enabled reports whether this host is part of a fleet.
func (f Fleet) Enabled() bool { return len(f.Servers) > 0 }

// takesRules reports whether rules come from the fleet, too.
func (f Fleet) takesRules() bool { return f.Enabled() && slices.Contains(f.Accept, AcceptRules) }

var (
	fleetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,31}$`)
	hostName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// CheckFleetName refuses what cannot be the name of a fleet.
func CheckFleetName(name string) error {
	if !fleetName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a fleet; allowed: a letter or digit, then up to 31 letters, digits and -", name)
	}
	return nil
}

// CheckHostName refuses what cannot be the name of a host in a fleet. There is no _ in one, so that it can stand for a
// dot where there must be none.
func CheckHostName(name string) error {
	if len(name) > 253 || !hostName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a host; allowed: small letters, digits, - and dots, as in web1.example.com", name)
	}
	return nil
}

// CheckServer refuses what is not the address of a server, and one to which everything would go in clear over a network.
func CheckServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "tls" && u.Scheme != "nats" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" {
		return fmt.Errorf("%q is not the address of a server, such as tls://nats1.example.com:4222", server)
	}
	if u.User != nil {
		return fmt.Errorf("%q has a user or a password, which others can read here: use fleet.credentials", u.Redacted())
	}
	a, err := netip.ParseAddr(u.Hostname())
	if local := err == nil && a.IsLoopback() || u.Hostname() == "localhost"; u.Scheme == "nats" && !local {
		return fmt.Errorf("%q would be reached without encryption: write tls:// (nats:// is for 127.0.0.1 and [::1])", server)
	}
	return nil
}

// CheckSigningKey refuses what is not a public key of minisign: "Ed", 8 bytes that name it and 32 bytes, in base64.
func CheckSigningKey(key string) error {
	if b, err := base64.StdEncoding.DecodeString(key); err != nil || len(b) != 42 || string(b[:2]) != "Ed" {
		return fmt.Errorf("%q is not a public key of minisign: give the second line of the .pub file, which begins with RW", key)
	}
	return nil
}

func (f Fleet) validate(ps *problems) {
	each := func(key string, values []string, check func(string) error) {
		for i, v := range values {
			if err := check(v); err != nil {
				ps.add(fmt.Sprintf("%s[%d]", key, i), "%v", err)
			}
		}
	}
	each("fleet.servers", f.Servers, CheckServer)
	if err := CheckFleetName(f.Name); err != nil {
		ps.add("fleet.name", "%v", err)
	}
	if f.Host != "" {
		if err := CheckHostName(f.Host); err != nil {
			ps.add("fleet.host", "%v", err)
		}
	}
	for _, file := range []struct{ key, path string }{
		{"fleet.credentials", f.Credentials}, {"fleet.tls.ca", f.TLS.CA}, {"fleet.tls.cert", f.TLS.Cert}, {"fleet.tls.key", f.TLS.Key},
	} {
		if file.path != "" && !filepath.IsAbs(file.path) {
			ps.add(file.key, "%q is not an absolute path", file.path)
		}
	}
	if ext := filepath.Ext(f.Credentials); f.Credentials != "" && ext != ".creds" && ext != ".nk" {
		ps.add("fleet.credentials", "%q is neither a .creds file (of nsc) nor an .nk file (the seed of an NKey)", f.Credentials)
	}
	switch {
	case f.TLS.Cert != "" && f.TLS.Key == "":
		ps.add("fleet.tls.key", "is missing: fleet.tls.cert needs it")
	case f.TLS.Cert == "" && f.TLS.Key != "":
		ps.add("fleet.tls.cert", "is missing: fleet.tls.key needs it")
	}
	ps.oneOf("fleet.bundles", f.Bundles, BundlesNever, BundlesRequest, BundlesProven, BundlesAll)
	if f.MaxWaiting < 64<<10 || f.MaxWaiting > 64<<30 {
		ps.add("fleet.max_waiting", "%s is out of range; allowed: 64KiB to 64GiB", f.MaxWaiting)
	}
	for i, what := range f.Accept {
		ps.oneOf(fmt.Sprintf("fleet.accept[%d]", i), what, AcceptRules, AcceptLists)
	}
	if slices.Contains(f.Accept, AcceptLists) && !slices.Contains(f.Accept, AcceptRules) {
		ps.add("fleet.accept", "has lists alone, and these are lists of rules: add rules")
	}
	each("fleet.keys", f.Keys, CheckSigningKey)
	if f.Enabled() && len(f.Accept) > 0 && len(f.Keys) == 0 {
		ps.add("fleet.keys", "is empty: fleet.accept needs the public keys that sign for this host")
	}
	if !filepath.IsAbs(f.Dir) {
		ps.add("fleet.dir", "%q is not an absolute path", f.Dir)
	}
}

// same compares what a running daemon cannot change.
func (f Fleet) same(as Fleet) bool {
	return slices.Equal(f.Servers, as.Servers) && f.Name == as.Name && strings.EqualFold(f.Host, as.Host) &&
		f.Credentials == as.Credentials && f.TLS == as.TLS && f.Bundles == as.Bundles && f.MaxWaiting == as.MaxWaiting &&
		slices.Equal(f.Accept, as.Accept) && slices.Equal(f.Keys, as.Keys)
}
