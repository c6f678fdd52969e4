package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"culprit/fleet/sets"
)

// Status is what a host says of itself, in the bucket [Name.Hosts]: when it starts, when something changes, and each
// [StatusEvery].
type Status struct {
	Host    string    `json:"host"`
	Machine string    `json:"machine"`          // see [MachineID]
	Version string    `json:"version"`          // of culprit
	Kernel  string    `json:"kernel,omitempty"` // its release
	Started time.Time `json:"started"`
	Time    time.Time `json:"time"` // of this status, by the host's clock
	// Stopped says that culprit ended there in good order.
	Stopped bool `json:"stopped,omitempty"`
	// Outbox names the numbers of its events, and Sequence is the last of them. Waiting is how many events wait to be sent, and Lost how
	// many had no room.
	Outbox   string `json:"outbox"`
	Sequence uint64 `json:"sequence"`
	Waiting  int64  `json:"waiting"`
	Lost     uint64 `json:"lost,omitempty"`
	// Rules are the names of those in force, with those of sets. RulesInAll is how many there are, if not all have room.
	Rules      []string      `json:"rules,omitempty"`
	RulesInAll int           `json:"rules_in_all,omitempty"`
	Sets       []sets.Status `json:"sets,omitempty"`
	Bundles    string        `json:"bundles"` // fleet.bundles of its configuration
	// Refused are the last captures that somebody asked for and did not get.
	Refused []Refusal `json:"refused,omitempty"`
	// Unread is why a mirror could not read what the host said: then this is all that it has of it.
	Unread string `json:"unread,omitempty"`
}

// A Refusal says why a host does not give the bundle of a capture.
type Refusal struct {
	Capture string `json:"capture"`
	Why     string `json:"why"`
	Request uint64 `json:"request"` // what it answers, see [Conn.Ask]
}

// StatusEvery is how often a host says how it is, if nothing changes. One that says nothing for three times as long is
// silent.
const StatusEvery = time.Minute

// Silent is after how long a host that says nothing is taken for silent.
const Silent = 3 * StatusEvery

// Alive is the [Status.State] of a host that says how it is, on time.
const Alive = "alive"

// State says for people whether the host is alive.
func (s *Status) State(now time.Time) string {
	switch quiet := now.Sub(s.Time); {
	case s.Stopped:
		return "stopped"
	case quiet > Silent:
		return "silent for " + quiet.Round(time.Second).String()
	case quiet < -Silent:
		return "its clock is " + (-quiet).Round(time.Second).String() + " ahead"
	}
	return Alive
}

// MaxStatus bounds a status, in bytes of JSON.
const MaxStatus = 64 << 10

// fit writes a status as JSON of so many bytes at most. It leaves out the last rules, and then the last sets, where there are too many.
func (s Status) fit(most int) ([]byte, error) {
	for all := len(s.Rules); ; {
		body, err := json.Marshal(s)
		if err != nil || len(body) <= most {
			return body, err
		}
		switch {
		case len(s.Rules) > 0:
			s.Rules, s.RulesInAll = s.Rules[:len(s.Rules)*3/4], all
		case len(s.Sets) > 0:
			s.Sets = s.Sets[:len(s.Sets)*3/4]
		default:
			return nil, fmt.Errorf("say how this host is: that takes %d bytes, and the servers take %d: raise max_payload in their configuration", len(body), most)
		}
	}
}

// ReadStatus reads what a host said of itself. It wrote that: escape what you show.
func ReadStatus(host string, doc []byte) (s Status, err error) {
	if len(doc) > MaxStatus {
		return s, fmt.Errorf("the status of %s has %d bytes", host, len(doc))
	}
	if err := json.Unmarshal(doc, &s); err != nil {
		return s, fmt.Errorf("read the status of %s: %w", host, err)
	}
	if s.Host != host {
		return s, errors.New("the status in the place of " + host + " is of another host")
	}
	if s.Unread != "" {
		return s, fmt.Errorf("the status of %s was not read: %s", host, s.Unread)
	}
	return s, nil
}
