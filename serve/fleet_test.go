package serve

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/internal/event"
)

// mirrorIn makes the mirror of a fleet with documents, and keeps it open.
func mirrorIn(t testing.TB, dir string) func(documents ...catalogue.Received) {
	t.Helper()
	d, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.OpenMirror(d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	for _, status := range []string{
		`{"host":"web1","version":"1.0","time":"` + time.Now().Format(time.RFC3339) + `","waiting":3,"bundles":"request","rules":["a","b"],"sets":[{"name":"hunt","version":7,"state":"in_force"}]}`,
		`{"host":"web1"}`, `{"host":"web3","version":"` + "<script>" + `","time":"2026-01-02T03:04:05Z"}`,
	} {
		host := "web1"
		if strings.Contains(status, "web3") {
			host = "web3"
		} else if status == `{"host":"web1"}` {
			host = "web2" // it says that it is another
		}
		if err := c.PutMember(t.Context(), catalogue.Member{Host: host, Document: []byte(status)}); err != nil {
			t.Fatal(err)
		}
	}
	sequence := uint64(0)
	return func(documents ...catalogue.Received) {
		t.Helper()
		sequence++
		if refused, err := c.Receive(t.Context(), catalogue.Position{Stream: "culprit_events", Created: time.Now(), Sequence: sequence}, documents); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
}

func hitOn(host, name string) catalogue.Received {
	return catalogue.Received{Host: host, Document: hitOf(name, func(h *event.Hit) { h.Host = &event.Host{Name: host} })}
}

// The pages show whose each thing is, filter by host, and say who else asked for a name.
func TestFleet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := mirrorIn(t, dir)
	first := hitOn("web1", "x.badzone.test")
	capture := event.Capture{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Action: event.ActionCapture}, User: event.User{ID: "7"}, Host: &event.Host{Name: "web1"},
		Culprit: event.CaptureDetail{State: event.StateEnded},
	}
	trace := event.Trace{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Action: event.ActionTrace}, User: event.User{ID: "7"}, Host: &event.Host{Name: "web1"},
		File:    event.File{Path: "/var/lib/culprit/traces/x/812-php-x.strace", Size: 5},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: capture.Event.ID}, State: event.StateEnded},
	}
	put(first, catalogue.Received{Host: "web1", Document: capture}, catalogue.Received{Host: "web1", Document: trace},
		hitOn("web2", "x.badzone.test"), hitOn("web2", "x.badzone.test"), hitOn("web3", "other.test"))
	at, _ := start(t, dir, "127.0.0.1:0")
	id := first.Document.(*event.Hit).Event.ID
	for path, want := range map[string][]string{
		"/":                             {"web1", "web2", "web3", `name="host"`, "1 of 3 hosts alive"},
		"/?host=web3":                   {"other.test"},
		"/hits/" + id:                   {"web2 (2 hits)", "/?name=x.badzone.test"},
		"/hosts":                        {"alive", "silent for", "hunt 7: in force", "of another host", "&lt;script&gt;"},
		"/captures":                     {"web1"},
		"/captures/" + capture.Event.ID: {"on its host", "culprit fleet fetch " + capture.Event.ID},
	} {
		status, body := get(t, at+path)
		for _, text := range want {
			if status != http.StatusOK || !strings.Contains(body, text) {
				t.Errorf("%s: %d, without %q:\n%s", path, status, text, body)
			}
		}
	}
	if status, body := get(t, at+"/traces/"+trace.Event.ID); status != http.StatusGone || !strings.Contains(body, "culprit fleet fetch "+capture.Event.ID) {
		t.Errorf("a trace that is on its host: %d, %s", status, body)
	}
	if _, body := get(t, at+"/?host=web3"); strings.Contains(body, "x.badzone.test") {
		t.Error("the filter for a host shows others")
	}
}

// Hits come live in the order in which they come into the mirror, whatever the clocks of their hosts say.
func TestFleetLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := mirrorIn(t, dir)
	ahead := hitOn("web2", "ahead.test")
	ahead.Document.(*event.Hit).Event.ID = ulid.MustNew(ulid.Timestamp(time.Now().Add(time.Hour)), rand.Reader).String()
	earlier, proven := hitOn("web3", "earlier.test"), hitOn("web3", "proven.test")
	put(hitOn("web1", "first.test"), proven)
	at, _ := start(t, dir, "127.0.0.1:0")
	_, page := get(t, at)
	stream := listenTo(t, at+"/events?after="+newest(t, page), "")
	for _, one := range []catalogue.Received{hitOn("web1", "second.test"), ahead, hitOn("web1", "third.test"), earlier, hitOn("web2", "fourth.test")} {
		put(one)
		if got, want := nextHit(t, stream), one.Document.(*event.Hit).Event.ID; got != want {
			t.Errorf("told of %s, want %s", got, want)
		}
	}
	hit := proven.Document.(*event.Hit).Event.ID
	put(catalogue.Received{Host: "web3", Document: event.Proof{
		Timestamp: time.Now(), Event: event.Meta{ID: event.NewID()}, Host: &event.Host{Name: "web3"},
		Culprit: event.ProofDetail{Hit: event.Reference{ID: hit}, Capture: event.Reference{ID: event.NewID()}, Trace: event.Reference{ID: event.NewID()}, Line: 7},
	}})
	next(t, stream, "event: change")
	if row := next(t, stream, `data: <tr data-id="`); !strings.HasPrefix(row, hit) || !strings.Contains(row, "line 7") {
		t.Errorf("told of the proof by %s", row)
	}
}
