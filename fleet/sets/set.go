// Package sets has the rules and lists that a fleet gets from one place: signed sets. What a set is, how it is signed and
// verified, what a host keeps of the sets that it was given, and which of them are to be in force.
//
// It trusts nobody but the owner of the key. Who has the broker can keep a set from a host, but cannot change one, bring back an
// older one, or hand a host the set of another fleet, name or host.
package sets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"time"

	"culprit/internal/config"
)

// Format is the format of the sets that this culprit reads and writes. It is in each set, so that nothing else that the owner
// of a key has signed can be taken for one.
const Format = "culprit-set-1"

// Bounds of a set.
const (
	MaxBytes     = 256 << 10 // of its document
	MaxRules     = 256
	MaxLists     = 32
	MaxHosts     = 256       // patterns
	MaxListBytes = 256 << 20 // of one list
)

// A Set is a version of rules and lists for hosts of a fleet.
type Set struct {
	Format string `json:"format"`
	Fleet  string `json:"fleet"`
	Name   string `json:"name"`
	// Version rises with each document of that name.
	Version uint64    `json:"version"`
	Created time.Time `json:"created"`
	// Expires is when it ends by itself; zero: it does not.
	Expires time.Time `json:"expires,omitzero"`
	// Hosts are patterns of names of hosts (*, ?, […]); none: all hosts.
	Hosts []string `json:"hosts,omitempty"`
	// Rules are as in the configuration, but their lists are those of the set: "fleet:NAME".
	Rules []config.Rule `json:"rules,omitempty"`
	Lists []List        `json:"lists,omitempty"`
	// Withdrawn says that the set is taken back. Such a set has neither rules nor lists.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Ended are other sets that are taken back, by name, with the version up to which they are. Only the set [EndedName] has any, and nothing
	// else: it stands for the withdrawals of many, which then need no place of their own.
	Ended map[string]uint64 `json:"ended,omitempty"`
}

// EndedName is the name of the set that takes others back.
const EndedName = "taken-back"

// A List is a file of a set, as rules of a configuration name them.
type List struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of the file, in hexadecimal digits
	Size   int64  `json:"size"`   // in bytes
}

// Scheme is what stands before the name of a list of the set in the lists of its rules.
const Scheme = "fleet:"

var (
	setName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$`)
	listName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	fleetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,31}$`)
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Until says when the set ends by itself, in words.
func (s *Set) Until() string {
	if s.Expires.IsZero() {
		return "withdrawn"
	}
	return s.Expires.Format(time.RFC3339)
}

// ID names the set and its version for people: "badzones 3".
func (s *Set) ID() string { return fmt.Sprintf("%s %d", s.Name, s.Version) }

// Expired reports whether the set has ended by itself.
func (s *Set) Expired(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

// For reports whether the set is for a host.
func (s *Set) For(host string) bool {
	return len(s.Hosts) == 0 || slices.ContainsFunc(s.Hosts, func(pattern string) bool {
		ok, err := path.Match(pattern, host)
		return ok && err == nil
	})
}

// Encode writes the set as it is signed: JSON in its one form, for people to read.
func (s *Set) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return nil, fmt.Errorf("encode the set %s: %w", s.Name, err)
	}
	if b.Len() > MaxBytes {
		if s.Ended != nil {
			return nil, fmt.Errorf("%d sets were taken back, and no more have room in %d bytes: publish under names that there were", len(s.Ended), MaxBytes)
		}
		return nil, fmt.Errorf("the set %s has %d bytes, %d are allowed: put names into a list, or make several sets", s.Name, b.Len(), MaxBytes)
	}
	return b.Bytes(), nil
}

// decode reads what Encode has written, and nothing else: two readers must not see two sets in one document.
func decode(doc []byte) (*Set, error) {
	if len(doc) > MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, %d are allowed", len(doc), MaxBytes)
	}
	// What is no set of this format is told by its format, not by its first unknown key.
	var any struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(doc, &any); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if any.Format != Format {
		return nil, fmt.Errorf("its format is %q, this culprit reads %q", any.Format, Format)
	}
	s := new(Set)
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("this culprit does not understand it: %w", err)
	}
	again, err := s.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, doc) {
		return nil, fmt.Errorf("it is not written as `culprit fleet sign` writes it")
	}
	return s, nil
}
