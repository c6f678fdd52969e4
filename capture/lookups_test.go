package capture

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/words"
)

// A lookup that a local resolver sends on is joined to the hit of the program that
// asked, if that was seen.
func TestForwards(t *testing.T) {
	t.Parallel()
	now := time.Now()
	hit := func(id, name string, after time.Duration) *event.Hit {
		return &event.Hit{
			Timestamp: now.Add(after), Event: event.Meta{ID: id},
			DNS: &event.DNS{ID: id, Question: event.Question{Name: name, Type: "A", Class: "IN"}},
		}
	}
	l := lookups{}
	l.ask(hit("old", "a.test", -time.Minute))
	l.ask(hit("first", "b.test", 0))
	l.ask(hit("second", "b.test", time.Second))
	l.ask(&event.Hit{})
	for _, tt := range []struct {
		name  string
		after time.Duration
		from  string
	}{
		{"b.test", 2 * time.Second, "second"},
		{"b.test", 2*time.Second + forwardWithin, ""},
		{"a.test", 0, ""},
		{"c.test", 0, ""},
	} {
		h := hit("sent on", tt.name, tt.after)
		why, ref := l.forwarded(h, "dnsmasq (101)")
		from := ""
		if ref != nil {
			from = ref.ID
		}
		if from != tt.from || !strings.Contains(words.NoCapture(why), "dnsmasq (101)") || strings.Contains(words.NoCapture(why), "UNIX socket") != (from == "") {
			t.Errorf("%s after %v: from %q, want %q, and it says %q", tt.name, tt.after, from, tt.from, why)
		}
	}
	if why, _ := l.forwarded(&event.Hit{}, "x"); !strings.Contains(words.NoCapture(why), "UNIX socket") {
		t.Errorf("without a question it says %q", why)
	}
	for i := range 3 * maxAsked {
		l.ask(hit("many", fmt.Sprint(i), 0))
	}
	if len(l) > maxAsked {
		t.Errorf("it remembers %d questions", len(l))
	}
}

// Resolvers are known by user or by program.
func TestResolvers(t *testing.T) {
	t.Parallel()
	g := newGuard(proc.Default, config.Guard{Resolvers: []string{"dnsmasq", "4000", "/usr/sbin/nscd", "/opt/*/resolver"}})
	for _, tt := range []struct {
		uid, user, executable, want string
	}{
		{"101", "dnsmasq", "", "dnsmasq (101)"},
		{"4000", "", "", "4000"},
		{"0", "root", "/usr/sbin/nscd", "/usr/sbin/nscd"},
		{"0", "root", "/usr/sbin/nscd (deleted)", "/usr/sbin/nscd"},
		{"0", "root", "/opt/a/resolver", "/opt/*/resolver"},
		{"0", "root", "/opt/a/b/resolver", ""},
		{"4001", "", "/home/dnsmasq", ""},
		{"4001", "", "/usr/sbin/nscd", ""}, // anybody can run that
		{"4001", "", "", ""},
		{"", "", "", ""},
	} {
		h := &event.Hit{}
		if tt.uid != "" {
			h.User = &event.User{ID: tt.uid, Name: tt.user}
		}
		if tt.executable != "" {
			h.Process = &event.Process{Executable: tt.executable, RealUser: &event.User{ID: tt.uid}}
		}
		if got := g.resolver(h); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt, got, tt.want)
		}
	}
}
