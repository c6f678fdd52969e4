package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	var l lookups
	resolver := &forwarder{name: "dnsmasq (101)", trusted: true, how: event.ForwardedQuestion}
	l.ask(hit("old", "a.test", -time.Minute), nil, true)
	l.ask(hit("first", "b.test", 0), nil, true)
	l.ask(hit("second", "b.test", time.Second), nil, true)
	l.ask(&event.Hit{}, nil, true)
	for _, tt := range []struct {
		name  string
		after time.Duration
		from  string
	}{
		{"b.test", 2 * time.Second, "second"},
		{"b.test", time.Second + forwardWithin, "second"},
		{"b.test", 2*time.Second + forwardWithin, ""},
		{"a.test", 0, ""},
		{"c.test", 0, ""},
	} {
		h := hit("sent on", tt.name, tt.after)
		l.forwarded(h, resolver)
		from := ""
		if ref := h.Culprit.ForwardedFrom; ref != nil {
			from = ref.ID
		}
		if from != tt.from {
			t.Errorf("%s after %v: from %q, want %q", tt.name, tt.after, from, tt.from)
		}
	}
	for i := range 3 * maxAsked {
		l.ask(hit("many", fmt.Sprint(i), 0), nil, true)
	}
	if len(l.queue) > maxAsked || len(l.byQuestion) > maxAsked {
		t.Errorf("it remembers %d questions", len(l.queue))
	}
	l.expire(now.Add(time.Hour))
	if len(l.queue)+len(l.byQuestion)+len(l.byMessage) != 0 {
		t.Errorf("what is old is remembered: %d, %d, %d", len(l.queue), len(l.byQuestion), len(l.byMessage))
	}
}

// asks is a hit of a process in a network namespace (0: ours) that a user made.
func asks(pid int, payload string, netns uint32, owner string) *event.Hit {
	h := &event.Hit{
		Timestamp: time.Now(), Event: event.Meta{ID: fmt.Sprint("hit of ", pid)}, Payload: []byte(payload), Network: event.Network{Transport: "udp"},
		User: &event.User{ID: "4242"}, Process: &event.Process{PID: pid, EntityID: fmt.Sprint(pid, "-1"), RealUser: &event.User{ID: "4242"}},
		DNS:         &event.DNS{ID: payload, Question: event.Question{Name: "x.badzone.test", Type: "A", Class: "IN"}},
		Destination: event.Endpoint{IP: netip.MustParseAddr("10.0.2.3"), Port: 53},
	}
	if netns != 0 {
		h.Culprit.Netns = &event.Namespace{Inode: netns, Owner: &event.User{ID: owner}}
	}
	return h
}

// Which packet a forwarder sent on is known by its message where the device says whose it is, otherwise by its
// question. Where several programs could have asked, all are told, and nobody is named who cannot have.
func TestForwardsOfWhom(t *testing.T) {
	t.Parallel()
	const ours, theirs, behind, roots = 100, 200, 201, 300
	inner, again := asks(1, "one", theirs, "4242"), asks(1, "one", theirs, "4242")
	for _, tt := range []struct {
		name   string
		asked  []*event.Hit
		h      *event.Hit
		serves uint32
		f      forwarder
		want   string
	}{
		{"the same message", []*event.Hit{inner, again, asks(2, "two", theirs, "4242")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[1]"},
		{"of another namespace", []*event.Hit{asks(1, "one", roots, "0")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[]"},
		{"of our own namespace", []*event.Hit{asks(1, "one", 0, "")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[]"},
		{"of another user's namespace", []*event.Hit{asks(1, "one", behind, "4243")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[]"},
		{"of a namespace behind", []*event.Hit{asks(1, "one", behind, "4242")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[1]"},
		{"only the same question", []*event.Hit{inner}, asks(9, "another", 0, ""), theirs, forwarder{}, "[]"},
		{"sent twice by the forwarder itself", []*event.Hit{asks(9, "one", theirs, "4242")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[]"},
		{"of two with the same message", []*event.Hit{inner, asks(2, "one", theirs, "4242")}, asks(9, "one", 0, ""), theirs, forwarder{}, "[2 1]"},
		{"a user's resolver", []*event.Hit{inner}, asks(9, "another", 0, ""), 0, forwarder{}, "[1]"},
		{"a user's resolver, and others asked", []*event.Hit{asks(1, "one", 0, ""), asks(2, "one", roots, "0"), asks(3, "one", ours, "4243")}, asks(9, "another", 0, ""), 0, forwarder{}, "[]"},
		{"root's resolver", []*event.Hit{asks(1, "one", roots, "0")}, to(asks(9, "another", 0, ""), "192.0.2.1"), 0, forwarder{trusted: true}, "[1]"},
		{"root's resolver, asked by two", []*event.Hit{asks(1, "one", roots, "0"), asks(2, "two", theirs, "4242")}, to(asks(9, "another", 0, ""), "192.0.2.1"), 0, forwarder{trusted: true}, "[2 1]"},
		{"root's resolver, beside one who asks its server", []*event.Hit{asks(1, "one", roots, "0"), to(asks(2, "two", 0, ""), "192.0.2.1")}, to(asks(9, "another", 0, ""), "192.0.2.1"), 0, forwarder{trusted: true}, "[1]"},
		{"in the namespace of one of them", []*event.Hit{asks(1, "one", roots, "0"), asks(2, "one", 301, "0")}, to(asks(9, "another", roots, "0"), "192.0.2.1"), 0, forwarder{trusted: true}, "[1]"},
	} {
		var l lookups
		for _, h := range tt.asked {
			l.ask(h, nil, true)
		}
		f := tt.f
		if f.how = event.ForwardedQuestion; tt.serves != 0 {
			f.how = event.ForwardedMessage
			tt.h.Culprit.Serves = []event.Served{{Netns: event.Namespace{Inode: tt.serves}}}
		}
		from, _ := l.forwarded(tt.h, &f)
		pids := []int{}
		if one := tt.h.Culprit.ForwardedFrom; one != nil {
			pids = append(pids, one.Process.PID)
			if one.How != f.how {
				t.Errorf("%s: joined by %q", tt.name, one.How)
			}
		}
		for _, c := range tt.h.Culprit.ForwardedCandidates {
			pids = append(pids, c.Process.PID)
		}
		if got := fmt.Sprint(pids); got != tt.want || (from != nil) != (len(pids) == 1) {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, from, tt.want)
		}
	}
}

// A user's program that calls itself pasta is the sender of its packet if nobody is captured for the same message: otherwise he would
// go free for both. Root's forwarder sends for whoever asked.
func TestNobodyCaptured(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ captured, trusted, want bool }{{true, false, true}, {false, false, false}, {false, true, true}} {
		var l lookups
		l.ask(asks(1, "one", 201, "4242"), nil, tt.captured)
		h := asks(9, "one", 0, "")
		h.Culprit.Serves = []event.Served{{Netns: event.Namespace{Inode: 201}}}
		from, is := l.forwarded(h, &forwarder{trusted: tt.trusted, how: event.ForwardedMessage})
		if is != tt.want || (from != nil) != is || from != nil && from.captured != tt.captured {
			t.Errorf("captured %v, root's %v: joined to %+v", tt.captured, tt.trusted, from)
		}
		// It may have sent for somebody all the same.
		if perhaps := h.Culprit.ForwardedCandidates; len(perhaps) > 0 == is || !is && perhaps[0].Process.PID != 1 {
			t.Errorf("captured %v, root's %v: perhaps for %+v", tt.captured, tt.trusted, perhaps)
		}
	}
}

// Of two who asked a user's forwarder the same, the one who is captured is not blamed for the other.
func TestOneOfTwoCaptured(t *testing.T) {
	t.Parallel()
	var l lookups
	l.ask(asks(1, "one", 201, "4242"), nil, true)
	l.ask(asks(2, "one", 201, "4242"), nil, false)
	h := asks(9, "one", 0, "")
	h.Culprit.Serves = []event.Served{{Netns: event.Namespace{Inode: 201}}}
	from, is := l.forwarded(h, &forwarder{how: event.ForwardedMessage})
	if from != nil || !is || len(h.Culprit.ForwardedCandidates) != 2 {
		t.Errorf("forwarded %v, for %+v, or one of %+v", is, from, h.Culprit.ForwardedCandidates)
	}
}

func to(h *event.Hit, ip string) *event.Hit {
	h.Destination.IP = netip.MustParseAddr(ip)
	return h
}

// What a second forwarder sends on is joined to the program that asked the first one.
func TestForwardedTwice(t *testing.T) {
	t.Parallel()
	var l lookups
	l.ask(asks(1, "one", 201, "4242"), nil, true)
	first := asks(8, "two", 200, "4242")
	from, _ := l.forwarded(first, &forwarder{how: event.ForwardedQuestion})
	l.ask(first, from, true)
	second := asks(9, "two", 0, "")
	second.Culprit.Serves = []event.Served{{Netns: event.Namespace{Inode: 200}}}
	l.forwarded(second, &forwarder{how: event.ForwardedMessage})
	if from := second.Culprit.ForwardedFrom; from == nil || from.Process.PID != 1 || from.How != event.ForwardedQuestion {
		t.Errorf("the second is for %+v", from)
	}
	// Retries of both are of the same program.
	l.ask(asks(1, "one", 201, "4242"), nil, true)
	third := to(asks(10, "three", 0, ""), "192.0.2.1")
	if l.forwarded(third, &forwarder{trusted: true, how: event.ForwardedQuestion}); third.Culprit.ForwardedFrom == nil {
		t.Errorf("the third is for %+v", third.Culprit.ForwardedCandidates)
	}
}

// Resolvers are known by user or by program.
func TestResolvers(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fs := proc.FS(filepath.Join(root, "proc"))
	// fake makes a process that runs a file, and a file of the host.
	fake := func(pid int, executable, host string) {
		dir := filepath.Join(string(fs), fmt.Sprint(pid))
		host = filepath.Join(string(fs), "1/root", host)
		for _, d := range []string{filepath.Join(dir, "ns"), filepath.Join(string(fs), "1/ns"), filepath.Dir(host)} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		stat := fmt.Sprintf("%d (x) S 1 1 1 0 0 4194304 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0", pid)
		for path, text := range map[string]string{host: "x", filepath.Join(dir, "stat"): stat, filepath.Join(dir, "ns/mnt"): "", filepath.Join(string(fs), "1/ns/mnt"): ""} {
			if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if executable == "" {
			executable = host
		} else if err := os.WriteFile(executable, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(executable, filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	fake(10, "", "/usr/sbin/nscd")
	fake(11, "", "/opt/a/resolver")
	fake(12, filepath.Join(root, "its own"), "/usr/sbin/nscd") // a container has another file of that path
	fake(13, "", "/usr/sbin/unscd")                            // runs in the host's mount namespace, and an upgrade has replaced its file
	if err := errors.Join(os.Remove(filepath.Join(string(fs), "13/ns/mnt")), os.Link(filepath.Join(string(fs), "1/ns/mnt"), filepath.Join(string(fs), "13/ns/mnt"))); err != nil {
		t.Fatal(err)
	}
	isRoot := os.Geteuid() == 0 // otherwise the files belong to somebody else
	g := newGuard(fs, config.Guard{Resolvers: []string{"dnsmasq", "4000", "/usr/sbin/nscd", "/opt/*/resolver"}})
	for _, tt := range []struct {
		uid, user, executable string
		pid                   int
		within                string
		want                  string // a user's forwarder is in parentheses
	}{
		{"101", "dnsmasq", "", 0, "", "dnsmasq (101)"},
		{"101", "dnsmasq", "", 0, "web-1", ""}, // there anybody can be 101
		{"101", "dnsmasq", "", 0, "nobody knows", ""},
		{"4000", "", "", 0, "", "4000"},
		{"4000", "", "", 0, "web-1", "4000"}, // somebody said so
		{"0", "root", "/usr/sbin/nscd", 10, "", "/usr/sbin/nscd"},
		{"0", "root", "/usr/sbin/nscd (deleted)", 10, "", ""},
		{"0", "root", "/usr/sbin/nscd (deleted)", 13, "", "/usr/sbin/nscd"},
		{"0", "root", "/usr/sbin/nscd", 10, "web-1", "(/usr/sbin/nscd)"}, // its root can have it load a library
		{"0", "root", "/opt/a/resolver", 11, "", "/opt/*/resolver"},
		{"0", "root", "/opt/a/b/resolver", 11, "", ""},
		{"0", "root", "/usr/sbin/nscd", 12, "", ""},
		{"0", "root", "/usr/sbin/nscd", 99, "", ""}, // gone
		{"4001", "", "/home/dnsmasq", 10, "", ""},
		{"4001", "", "/usr/sbin/nscd", 10, "", "(/usr/sbin/nscd)"}, // anybody can run that
		{"4001", "", "", 10, "", ""},
		{"", "", "", 0, "", ""},
	} {
		h := &event.Hit{Located: true}
		if tt.within != "" {
			h.Within = []string{tt.within}
		}
		if tt.within == "nobody knows" { // the sender was gone, in another network namespace
			h.Located, h.Within, h.Culprit.Netns = false, nil, &event.Namespace{Inode: 1}
		}
		if tt.uid != "" {
			h.User = &event.User{ID: tt.uid, Name: tt.user}
		}
		if tt.executable != "" {
			h.Process = &event.Process{PID: tt.pid, EntityID: fmt.Sprint(tt.pid, "-7"), Executable: tt.executable, RealUser: &event.User{ID: tt.uid}}
		}
		got := ""
		if f := g.forwarder(h); f != nil {
			if got = f.name; !f.trusted {
				got = "(" + got + ")"
			}
		}
		if want := tt.want; got != want && (isRoot || !strings.Contains(want, "/")) {
			t.Errorf("%+v: %q, want %q", tt, got, want)
		}
	}
}

// What a hit says of a forwarder is told in words.
func TestForwarderWords(t *testing.T) {
	t.Parallel()
	for code, wanted := range map[event.NoCaptureCode][]string{
		event.NoCaptureForwarded: {"pasta", "another hit"},
		event.NoCaptureResolver:  {"pasta", "UNIX socket", "namespaces: all"},
	} {
		says := words.NoCapture(&event.NoCapture{Code: code, Detail: "pasta"})
		if i := slices.IndexFunc(wanted, func(w string) bool { return !strings.Contains(says, w) }); i >= 0 {
			t.Errorf("%s: %q does not say %q", code, says, wanted[i])
		}
	}
	d := event.HitDetail{ForwardedCandidates: []event.Forwarded{{Reference: event.Reference{ID: "01H"}, How: event.ForwardedMessage}}}
	h := event.Hit{Process: &event.Process{PID: 9, Executable: "/usr/bin/pasta"}, Culprit: d}
	for _, tt := range []struct {
		why          *event.NoCapture
		sender, says string
	}{
		{nil, "9", "perhaps for this one"},
		{&event.NoCapture{Code: event.NoCaptureNeverUsers}, "9", "perhaps for this one"},
		{&event.NoCapture{Code: event.NoCaptureForwarded}, "forwarded for one of", "for this one, or another"},
	} {
		h.Culprit.NoCapture = tt.why
		if sender, says := words.Sender(&h), words.PerhapsForwarded(&h.Culprit, &d.ForwardedCandidates[0]); !strings.HasPrefix(sender, tt.sender) || !strings.HasPrefix(says, tt.says) {
			t.Errorf("no capture %+v: %q, %q", tt.why, sender, says)
		}
	}
}
