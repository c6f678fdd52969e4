package shelf

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

// desk is where an operator publishes sets.
type desk struct {
	t    *testing.T
	conn *fleet.Conn
	key  minisign.PrivateKey
	now  time.Time
	sets.Trust
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	c, err := fleet.Connect(t.Context(), config.Fleet{Servers: []string{natsserver.Start(t, "").URL}, Name: "culprit"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	public, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t, c, key, time.Now().UTC().Truncate(time.Second), sets.Trust{Fleet: "culprit", Keys: []minisign.PublicKey{public}}}
}

func (d *desk) set(name string, version uint64) *sets.Set {
	d.t.Helper()
	s := &sets.Set{Format: sets.Format, Fleet: "culprit", Name: name, Version: version, Created: d.now}
	rule := config.Rule{Name: name, String: "BADZONE"}
	if _, err := s.Build([]config.Rule{rule.Filled()}, nil); err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *desk) put(s *sets.Set, key minisign.PrivateKey) error {
	d.t.Helper()
	signed, err := sets.Sign(s, key)
	if err != nil {
		d.t.Fatal(err)
	}
	return Put(d.t.Context(), d.conn, signed, nil)
}

func withdrawn(s *sets.Set) *sets.Set {
	s.Rules, s.Withdrawn = nil, true
	return s
}

// What is withdrawn or long over leaves its place when one signed set says so; what is in force, newer, or not signed by the owner stays.
func TestOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, other, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	put := func(s *sets.Set, key minisign.PrivateKey) {
		t.Helper()
		if err := d.put(s, key); err != nil {
			t.Fatal(err)
		}
	}
	old := d.set("old", 4)
	old.Expires = d.now.Add(time.Hour)
	put(old, d.key)
	put(withdrawn(d.set("back", 3)), d.key)
	put(withdrawn(d.set("again", 3)), d.key)
	put(d.set("zones", 1), d.key)
	put(withdrawn(d.set("others", 1<<60)), other)
	over := func(after time.Duration) (map[string]uint64, []Place, []string) {
		t.Helper()
		ended, places, odd, err := Over(t.Context(), d.conn, d.Trust, d.now.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return ended, places, odd
	}
	if ended, _, _ := over(29 * 24 * time.Hour); !maps.Equal(ended, map[string]uint64{"back": 3, "again": 3}) {
		t.Errorf("over are %v", ended)
	}
	ended, places, odd := over(31 * 24 * time.Hour)
	if !maps.Equal(ended, map[string]uint64{"old": 4, "back": 3, "again": 3}) || !slices.Equal(odd, []string{"others"}) {
		t.Errorf("over are %v, and not believed %v", ended, odd)
	}
	s := &sets.Set{Format: sets.Format, Fleet: "culprit", Name: sets.EndedName, Version: 1, Created: d.now, Ended: ended}
	put(s, d.key)
	put(d.set("again", 4), d.key) // meanwhile
	if err := Remove(t.Context(), d.conn, places); err != nil {
		t.Fatal(err)
	}
	all, err := All(t.Context(), d.conn)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	if want := []string{"again", "others", sets.EndedName, "zones"}; !slices.Equal(names, want) {
		t.Errorf("there are %v, want %v", names, want)
	}
	if n, err := Count(t.Context(), d.conn); err != nil || n != 4 {
		t.Errorf("%d places are taken, %v", n, err)
	}
	if again, places, _ := over(31 * 24 * time.Hour); !maps.Equal(again, ended) || len(places) != 0 {
		t.Errorf("after that over are %v, to be removed %v", again, places)
	}
	if err := d.put(d.set("back", 3), d.key); err == nil || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("a version that was taken back: %v", err)
	}
	put(d.set("back", 4), d.key)

	// What somebody has put in the place of the one that takes back would be signed with it.
	s.Version, s.Ended = 2, map[string]uint64{"zones": 1 << 60}
	put(s, other)
	if _, _, _, err := Over(t.Context(), d.conn, d.Trust, d.now); err == nil || !strings.Contains(err.Error(), "not believed") {
		t.Errorf("what another has signed: %v", err)
	}
}

// No more names than hosts can read are published; those that are there can be, and what makes room.
func TestMaxNames(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for i := range MaxNames - 1 {
		if err := d.conn.Put(t.Context(), d.conn.Name.Sets(), fmt.Sprint("x", i), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.put(d.set("last", 1), d.key); err != nil {
		t.Fatal(err)
	}
	if err := d.put(d.set("more", 1), d.key); err == nil || !strings.Contains(err.Error(), "culprit fleet tidy") {
		t.Errorf("one more: %v", err)
	}
	if err := d.put(withdrawn(d.set("last", 2)), d.key); err != nil {
		t.Errorf("a name that is there: %v", err)
	}
	ended, places, _, err := Over(t.Context(), d.conn, d.Trust, d.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.put(&sets.Set{Format: sets.Format, Fleet: "culprit", Name: sets.EndedName, Version: 1, Created: d.now, Ended: ended}, d.key); err != nil {
		t.Errorf("what makes room: %v", err)
	}
	if err := Remove(t.Context(), d.conn, places); err != nil {
		t.Fatal(err)
	}
}
