package sets

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"culprit/internal/config"
)

// host is a host of the fleet with a book, and a key that it trusts.
type host struct {
	t    *testing.T
	key  minisign.PrivateKey
	book *Book
	dir  Dir
	now  time.Time
}

func newHost(t *testing.T, a Accept) *host {
	t.Helper()
	key, public := newKey(t)
	dir, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &host{t, key, NewBook(Trust{Fleet: "f", Host: "web1", Keys: []minisign.PublicKey{public}}, a), dir, noon}
}

// offer signs a set and offers it.
func (h *host) offer(s *Set) *Refusal {
	h.t.Helper()
	signed := sign(h.t, s, h.key)
	set, err := h.book.trust.Verify(s.Name, signed)
	if err != nil {
		h.t.Fatal(err)
	}
	_, why := h.book.Offer(signed, set, h.now)
	return why
}

// settle takes all steps, of which those refuses says are refused, and returns them in words.
func (h *host) settle(again bool, refuses ...string) string {
	var said []string
	for range 3 {
		for _, s := range h.book.Steps(h.now, h.dir.Ready, again) {
			word, version := "+", uint64(0)
			if s.Set == nil {
				word, version = "-", s.Was.Version
			} else {
				version = s.Set.Version
			}
			h.book.Try(s)
			var why *Refusal
			for _, r := range refuses {
				if r == fmt.Sprintf("%s%d", s.Name, version) {
					why, word = refuse(CodeConflict, "taken"), "!"
				}
			}
			h.book.Settle(s, why)
			said = append(said, fmt.Sprintf("%s%s%d", word, s.Name, version))
		}
		again = false
	}
	return strings.Join(said, " ")
}

// restart saves what the book knows, and begins again with it.
func (h *host) restart() map[string]error {
	h.t.Helper()
	for _, name := range h.book.Names() {
		if err := h.dir.Save(h.book, name); err != nil {
			h.t.Fatal(err)
		}
	}
	h.book = NewBook(h.book.trust, h.book.accept)
	wrong, err := h.dir.Load(h.book, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return wrong
}

func (h *host) is(name string, version uint64, state State, inForce uint64) {
	h.t.Helper()
	for _, s := range h.book.Statuses(h.now) {
		if s.Name == name {
			if s.Version != version || s.State != state || s.InForce != inForce {
				h.t.Errorf("the set %s is %+v, want version %d %s, in force %d", name, s, version, state, inForce)
			}
			return
		}
	}
	if version != 0 {
		h.t.Errorf("the set %s is not known", name)
	}
}

func (h *host) want(got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("the steps are %q, want %q", got, want)
	}
}

func withdrawn(version uint64) *Set {
	s := newSet(version)
	s.Rules, s.Withdrawn = nil, true
	return s
}

func with(s *Set, change func(*Set)) *Set { change(s); return s }

// The life of a set: put in force, replaced, withdrawn; what is older is never taken again, also after restarts.
func TestBook(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	if why := h.offer(newSet(2)); why != nil {
		t.Fatal(why)
	}
	h.want(h.settle(false), "+a2")
	h.want(h.settle(true), "")
	replayed := func(s *Set) {
		t.Helper()
		if why := h.offer(s); why == nil || why.Code != CodeReplayed {
			t.Errorf("version %d is %v, want it replayed", s.Version, why)
		}
	}
	replayed(newSet(1))
	replayed(with(newSet(2), func(s *Set) { s.Rules[0].String = "other" }))
	replayed(withdrawn(1))
	h.restart()
	replayed(newSet(1))
	h.want(h.settle(false), "+a2")
	if why := h.offer(withdrawn(4)); why != nil {
		t.Fatal(why)
	}
	h.want(h.settle(false), "-a2")
	h.is("a", 4, StateWithdrawn, 0)
	replayed(newSet(2))
	h.restart()
	replayed(newSet(3))
	h.want(h.settle(true), "")
	if why := h.offer(newSet(5)); why != nil {
		t.Fatal(why)
	}
	h.want(h.settle(false), "+a5")
}

// A version that is refused leaves the one before it in force, also after a restart, and is tried again when something else has changed.
func TestBookKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	h.offer(newSet(1))
	h.want(h.settle(false), "+a1")
	h.offer(newSet(2))
	h.want(h.settle(false, "a2"), "!a2")
	h.is("a", 2, StateRefused, 1)
	h.want(h.settle(false), "")
	h.want(h.settle(true, "a2"), "!a2")
	h.restart()
	h.want(h.settle(false, "a2"), "+a1 !a2")
	h.is("a", 2, StateRefused, 1)
	h.want(h.settle(true), "+a2")
	h.is("a", 2, StateInForce, 2)
	// The host's own configuration has changed: the set had to go.
	h.book.Back(h.book.InForce()[0], refuse(CodeConflict, "the name is taken"))
	h.is("a", 2, StateRefused, 0)
	h.want(h.settle(true), "+a2")
}

// A set ends by the host's clock, with the version before it; a clock that is set back does not bring it back.
func TestBookExpiry(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	h.offer(newSet(1))
	h.settle(false)
	h.offer(with(newSet(2), func(s *Set) { s.Expires = noon.Add(time.Hour) }))
	h.want(h.settle(false), "+a2")
	h.now = noon.Add(time.Hour)
	h.want(h.settle(false), "-a2")
	h.is("a", 2, StateExpired, 0)
	h.now = noon
	h.restart()
	h.want(h.settle(true), "")
	h.is("a", 2, StateExpired, 0)
	// One that is over when it comes ends the version before it.
	h.offer(newSet(3))
	h.want(h.settle(false), "+a3")
	h.offer(with(newSet(4), func(s *Set) { s.Created, s.Expires = noon.Add(-2*time.Hour), noon.Add(-time.Hour) }))
	h.want(h.settle(false), "-a3")
	// A version in force ends although the next one is refused.
	h.offer(with(newSet(5), func(s *Set) { s.Expires = noon.Add(time.Hour) }))
	h.want(h.settle(false), "+a5")
	h.offer(newSet(6))
	h.want(h.settle(false, "a6"), "!a6")
	h.now = noon.Add(2 * time.Hour)
	h.want(h.settle(false), "-a5")
}

// A set for other hosts is not in force here; one that was for this host, and is no longer, goes.
func TestBookHosts(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	for version, tc := range []struct {
		hosts []string
		steps string
		state State
	}{
		{[]string{"db*", "web2"}, "", StateElsewhere},
		{[]string{"db*", "web[12]"}, "+a2", StateInForce},
		{[]string{"web2"}, "-a2", StateElsewhere},
		{nil, "+a4", StateInForce},
	} {
		h.offer(with(newSet(uint64(version)+1), func(s *Set) { s.Hosts = tc.hosts }))
		h.want(h.settle(false), tc.steps)
		inForce := uint64(0)
		if tc.state == StateInForce {
			inForce = uint64(version) + 1
		}
		h.is("a", uint64(version)+1, tc.state, inForce)
	}
}

// What fleet.accept does not allow is refused.
func TestBookAccept(t *testing.T) {
	t.Parallel()
	list := List{Name: "l", SHA256: strings.Repeat("0", 64)}
	both := with(newSet(1), func(s *Set) { s.Lists = []List{list} })
	for _, tc := range []struct {
		a    Accept
		s    *Set
		want State
	}{
		{Accept{}, newSet(1), StateRefused},
		{Accept{Lists: true}, newSet(1), StateRefused},
		{Accept{Rules: true}, newSet(1), StateInForce},
		{Accept{Rules: true}, both, StateRefused},
		{Accept{Lists: true}, both, StateRefused},
		{all, both, StateWaiting},
	} {
		h := newHost(t, tc.a)
		h.offer(tc.s)
		h.settle(true)
		if got := h.book.Statuses(h.now)[0]; got.State != tc.want || (got.Code == CodeUnaccepted) != (tc.want == StateRefused) {
			t.Errorf("%+v: the set is %+v, want %s", tc.a, got, tc.want)
		}
	}
}

// A set waits for its lists, which are taken only if they are what was signed.
func TestLists(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	path := filepath.Join(t.TempDir(), "feed.txt")
	if err := os.WriteFile(path, []byte("evil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSet(1)
	s.Rules = nil
	if _, err := s.Build([]config.Rule{{Name: "feed", List: config.Paths{"x"}}}, map[string][]File{"feed": {{Path: path}}}); err != nil {
		t.Fatal(err)
	}
	h.offer(s)
	h.want(h.settle(false), "")
	h.is("a", 1, StateWaiting, 0)
	if m := h.book.Missing(h.now, h.dir.Ready); len(m) != 1 || m[0].Version != 1 {
		t.Fatalf("missing is %v", m)
	}
	for bytes, says := range map[string]string{
		"evil.example\nmore": "longer than the 13 bytes", "evil.examplf\n": "not the one that was signed", "evil": "not the one that was signed", "": "not the one",
	} {
		if err := h.dir.Keep(s.Lists[0], strings.NewReader(bytes), 0); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the list %q: %v, want %q", bytes, err, says)
		}
		if left, _ := os.ReadDir(filepath.Dir(h.dir.List(s.Lists[0]))); len(left) > 0 {
			t.Fatalf("left is %v", left)
		}
	}
	if err := h.dir.Keep(s.Lists[0], strings.NewReader("evil.example\n"), 1<<60); err == nil || !strings.Contains(err.Error(), "evidence.min_free") {
		t.Errorf("with a full disk: %v", err)
	}
	if err := h.dir.Keep(s.Lists[0], strings.NewReader("evil.example\n"), 0); err != nil {
		t.Fatal(err)
	}
	h.want(h.settle(false), "+a1")
	rules := h.dir.Rules(h.book.InForce()[0])
	if text, err := os.ReadFile(rules[0].List[0]); err != nil || string(text) != "evil.example\n" || !strings.HasSuffix(rules[0].List[0], "/feed.txt") {
		t.Errorf("the list of the rule %+v is %q, %v", rules, text, err)
	}
	// Another set with the same list stays without it, if it was changed on the disk meanwhile.
	h.restart()
	h.want(h.settle(false), "+a1")
	if err := os.WriteFile(rules[0].List[0], []byte("good.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.want(h.settle(false), "")
	h.is("a", 1, StateWaiting, 0)
	h.offer(withdrawn(2))
	h.settle(false)
	h.dir.Clean(h.book)
	if left, _ := os.ReadDir(h.dir.lists()); len(left) > 0 {
		t.Errorf("the lists of a set that was withdrawn are left: %v", left)
	}
}

// What is on the disk is believed only as far as a key has signed it.
func TestLoad(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	h.offer(newSet(1))
	h.settle(false)
	h.restart()
	path := filepath.Join(h.dir.sets(), "a.json")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := func(change func()) map[string]error {
		t.Helper()
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		change()
		h.book = NewBook(h.book.trust, all)
		wrong, err := h.dir.Load(h.book, h.now)
		if err != nil {
			t.Fatal(err)
		}
		return wrong
	}
	if wrong := again(func() {}); len(wrong) > 0 {
		t.Error(wrong)
	}
	for what, change := range map[string]func(){
		"cut":        func() { _ = os.Truncate(path, 20) },
		"other name": func() { _ = os.Rename(path, filepath.Join(h.dir.sets(), "b.json")) },
		"changed":    func() { _ = os.WriteFile(path, bytes.Replace(doc, []byte("ewog"), []byte("ewok"), 1), 0o600) },
	} {
		if wrong := again(change); len(wrong) != 1 {
			t.Errorf("%s: wrong is %v", what, wrong)
		}
		if len(h.book.Names()) > 0 {
			t.Errorf("%s: the set is known", what)
		}
	}
	// The owner of a stolen key cannot block a name for good: with the key goes what it has signed.
	private, other := newKey(t)
	wrong := again(func() { h.book.trust.Keys = []minisign.PublicKey{other} })
	if len(wrong) != 1 || !strings.Contains(wrong["a"].Error(), "not one of fleet.keys") {
		t.Errorf("wrong is %v", wrong)
	}
	h.key = private
	if why := h.offer(newSet(1)); why != nil {
		t.Error(why)
	}
}

// The name of a place on the servers leads nowhere else on the disk.
func TestSaveNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	path := filepath.Join(h.dir.path, "precious.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../precious", "/precious", "", ".", "..", "a/../../precious", strings.Repeat("x", 5000)} {
		h.book.Refuse(name, refuse(CodeForged, "changed"))
		if err := h.dir.Save(h.book, name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// A set that ends culprit while it is put in force is left alone in the end.
func TestTries(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	h.offer(newSet(1))
	for range maxTries {
		steps := h.book.Steps(h.now, h.dir.Ready, false)
		if len(steps) != 1 {
			t.Fatalf("the steps are %v", steps)
		}
		h.book.Try(steps[0])
		h.restart()
	}
	h.want(h.settle(true), "")
	h.is("a", 1, StateRefused, 0)
	h.offer(newSet(2))
	h.want(h.settle(false), "+a2")
}

// A book does not grow without end, and forgets only what cannot come back.
func TestBookBounds(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	for i := range 100 {
		h.book.Refuse(fmt.Sprint("x", i), refuse(CodeForged, "%s", strings.Repeat("ä", 5000)))
	}
	statuses := h.book.Statuses(h.now)
	if len(statuses) != maxRefused || len([]rune(statuses[0].Reason)) > 1000 {
		t.Errorf("%d refusals, the first of %d bytes", len(statuses), len(statuses[0].Reason))
	}
	name := func(s *Set, i int) *Set { s.Name = fmt.Sprint("a", i); return s }
	for i := range maxSets {
		h.offer(name(with(newSet(1), func(s *Set) {
			if i > 0 {
				s.Expires = noon.Add(time.Hour)
			}
		}), i))
	}
	if why := h.offer(newSet(1)); why == nil || why.Code != CodeTooMany {
		t.Errorf("one set too many: %v", why)
	}
	h.now = noon.Add(time.Hour + forgotten)
	if why := h.offer(newSet(1)); why != nil {
		t.Error(why)
	}
	if names := h.book.Names(); len(names) != 2 {
		t.Errorf("%d names are known, want the one without an end, and the new one", len(names))
	}
	// What still stands on the servers of those that were forgotten takes no room again, and hides none that are new.
	for i := range 2 * maxSets {
		if why := h.offer(name(with(newSet(1), func(s *Set) { s.Expires = noon.Add(time.Hour) }), i+1)); why != nil {
			t.Fatal(why)
		}
	}
	if names := h.book.Names(); len(names) != 2 {
		t.Errorf("%d names are known after sets that had long ended were offered again", len(names))
	}
}

// Junk with other names does not hide that a set that is known was replaced.
func TestRefuse(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	h.offer(newSet(1))
	h.settle(false)
	forged := func() *Refusal { return refuse(CodeForged, "changed") }
	for i := range maxRefused {
		if !h.book.Refuse(fmt.Sprint("x", i), forged()) {
			t.Error("a refusal is no news")
		}
	}
	if h.book.Refuse("y", forged()) || h.book.Refuse("x1", forged()) {
		t.Error("one refusal too many, or twice, is news")
	}
	if !h.book.Refuse("a", forged()) {
		t.Error("the refusal in the place of a set is no news")
	}
	h.is("a", 1, StateRefused, 1)
	if h.book.Gone("x1") || !h.book.Gone("a") {
		t.Error("who warns of places that are empty")
	}
	h.is("a", 1, StateInForce, 1)
	h.is("x1", 0, "", 0)
}
