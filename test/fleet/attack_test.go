package fleet

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet/sets"
	"culprit/internal/config"
	"culprit/test/harness"
)

// Dial connects in the network namespace of the site.
func (s *site) Dial(network, address string) (c net.Conn, err error) {
	s.Do(func() { c, err = net.Dial(network, address) })
	return c, err
}

// bucket opens the sets on the servers as somebody who owns these.
func (s *site) bucket() jetstream.KeyValue {
	s.t.Helper()
	key, err := nats.NkeyOptionFromSeed(s.nkey("operator"))
	if err != nil {
		s.t.Fatal(err)
	}
	nc, err := nats.Connect(servers, nats.SetCustomDialer(s), key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	kv, err := js.KeyValue(context.Background(), "culprit_sets")
	if err != nil {
		s.t.Fatal(err)
	}
	return kv
}

// put puts anything in the place of a set.
func (s *site) put(kv jetstream.KeyValue, name string, value []byte) {
	s.t.Helper()
	if _, err := kv.Put(context.Background(), name, value); err != nil {
		s.t.Fatal(err)
	}
}

// signed signs what culprit itself would not sign.
func (s *site) signed(key string, set sets.Set) []byte {
	s.t.Helper()
	var secret minisign.PrivateKey
	doc, err := s.read(key)
	if err == nil {
		err = secret.UnmarshalText([]byte(strings.TrimSpace(doc)))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	set.Format, set.Created = sets.Format, time.Now().UTC().Truncate(time.Second).Add(-time.Minute)
	text, err := set.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	value, err := sets.Signed{Set: text, Signature: string(minisign.Sign(secret, text))}.Value()
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

// Who owns the servers can put anything there, and take anything away: nothing that was signed stops to be in force, nothing else is. What
// is signed, and cannot work here, is refused as well, and each refusal says why.
func TestSetsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.Hunt(harness.LongWindow + harness.Badzone + s.block("rules"))
	kv := s.bucket()
	other := filepath.Join(s.Dir, "other.key")
	s.culprit("fleet", "keygen", "--no-password", other)
	rule := func(name, text string) []config.Rule { return []config.Rule{{Name: name, String: text}} }

	first := s.signed(s.key, sets.Set{Fleet: "culprit", Name: "zones", Version: 1, Rules: rule("worse", "WORSE")})
	s.put(kv, "zones", first)
	logged(d, inForce, "zones", `"version":1`)
	s.put(kv, "zones", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "zones", Version: 2, Rules: rule("worst", "WORST")}))
	logged(d, inForce, "zones", `"version":2`)
	for _, tc := range []struct {
		name  string
		value []byte
		code  string
	}{
		{"zones", first, `"code":"replayed"`},
		{"zones", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "zones", Version: 2, Rules: rule("worst", "OTHER")}), `two sets were signed with version 2`},
		{"zones", []byte("\x00junk"), `"code":"format"`},
		{"zones", s.signed(other, sets.Set{Fleet: "culprit", Name: "zones", Version: 9, Withdrawn: true}), `"code":"forged"`},
		{"place", first, `"code":"name"`},
		{"away", s.signed(s.key, sets.Set{Fleet: "others", Name: "away", Version: 1, Rules: rule("away", "AWAY")}), `"code":"fleet"`},
		{"twice", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "twice", Version: 1, Rules: rule("badzone", "BADZONE")}), `"code":"conflict"`},
		{"again", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "again", Version: 1, Rules: rule("worst", "WORST")}), `the set zones, which is in force`},
		{"bad", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "bad", Version: 1, Rules: rule("bad rule", strings.Repeat("x", 200))}), `rules[0].name`},
		{"file", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "file", Version: 1, Rules: []config.Rule{{Name: "f", List: config.Paths{"/etc/shadow"}}}}), `"code":"mistakes"`},
		{"list", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "list", Version: 1, Rules: rule("listed", "LISTED"), Lists: []sets.List{{Name: "l", SHA256: strings.Repeat("0", 64)}}}), `"code":"unaccepted"`},
	} {
		s.put(kv, tc.name, tc.value)
		logged(d, refused, tc.name, tc.code)
	}
	if err := kv.Delete(context.Background(), "zones"); err != nil {
		t.Fatal(err)
	}
	logged(d, "a set of the fleet is gone from the servers, and nobody has signed that: it stays as it is", "zones", "")
	for i := range 500 {
		s.put(kv, fmt.Sprint("junk", i), []byte("junk"))
	}

	// One that ends by itself.
	s.put(kv, "short", s.signed(s.key, sets.Set{Fleet: "culprit", Name: "short", Version: 1, Rules: rule("short", "SHORT"), Expires: time.Now().UTC().Truncate(time.Second).Add(5 * time.Second)}))
	logged(d, inForce, "short", "")
	logged(d, back, "short", "")

	sender := s.Sender(harness.NewUID())
	for _, name := range []string{"a.worse.test", "a.short.test", "a.away.test", "a.other.test", "a.worst.test", "a.badzone.test"} {
		sender.Ask(name)
	}
	d.Hit("a.badzone.test")
	if hit := d.Hit("a.worst.test"); hit.Rule.Ruleset != "zones" || hit.Rule.Version != "2" {
		t.Errorf("the hit is %+v", hit.Rule)
	}
	if hits := d.Hits(); len(hits) != 2 {
		t.Errorf("%d hits, want those of the host's own rule and of the set in force: %+v", len(hits), hits)
	}
	d.Stop()
}
