// Package fleet connects a host, and whoever looks at many hosts, to the servers of a fleet (NATS with JetStream), and
// says what everything is called there.
package fleet

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"culprit/internal/config"
)

// A Name is that of a fleet, which all names on the servers begin with.
type Name string

// Token is the name of a host where a dot would split it.
func Token(host string) string { return strings.ReplaceAll(host, ".", "_") }

// HostOf is the inverse of [Token]. It refuses what no host can be called.
func HostOf(token string) (host string, err error) {
	if strings.Contains(token, ".") {
		return "", fmt.Errorf("%q is not a host of a fleet", token)
	}
	host = strings.ReplaceAll(token, "_", ".")
	return host, config.CheckHostName(host)
}

// Stream has the events of all hosts.
func (n Name) Stream() string { return string(n) + "_events" }

// Subjects are those of the stream.
func (n Name) Subjects() string { return string(n) + ".events.*" }

// Subject is that of a host's events.
func (n Name) Subject(host string) string { return string(n) + ".events." + Token(host) }

// HostOfSubject is the inverse of [Name.Subject].
func (n Name) HostOfSubject(subject string) (host string, err error) {
	token, ok := strings.CutPrefix(subject, string(n)+".events.")
	if !ok {
		return "", fmt.Errorf("%q is not a subject of events of the fleet %s", subject, n)
	}
	return HostOf(token)
}

// Hosts is the key-value bucket in which hosts say how they are, by token.
func (n Name) Hosts() Bucket { return Bucket(n + "_hosts") }

// Sets is the key-value bucket of signed sets, by name.
func (n Name) Sets() Bucket { return Bucket(n + "_sets") }

// Lists is the object store of the lists of sets, by SHA-256.
func (n Name) Lists() string { return string(n) + "_lists" }

// Bundles is the object store of a host's bundles.
func (n Name) Bundles(host string) string { return string(n) + "_bundles_" + Token(host) }

// Requests is the key-value bucket of captures that somebody asks for, see [RequestKey].
func (n Name) Requests() Bucket { return Bucket(n + "_requests") }

// RequestKey is the key of a capture in [Name.Requests]; the capture "*" stands for all of a host.
func RequestKey(host, capture string) string { return Token(host) + "." + capture }

// Inbox is the prefix of the subjects on which a host gets answers.
func (n Name) Inbox(host string) string { return "_INBOX_" + string(n) + "_" + Token(host) }

// HostName returns what the fleet calls this host: fleet.host, or the machine's own name in small letters.
func HostName(c config.Fleet) (string, error) {
	if c.Host != "" {
		return c.Host, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the name of this machine: %w: set fleet.host", err)
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if err := config.CheckHostName(name); err != nil || name == "localhost" {
		return "", errors.New("the machine is called " + fmt.Sprintf("%q", name) + ", which cannot be the name of a host in a fleet: set fleet.host")
	}
	return name, nil
}
