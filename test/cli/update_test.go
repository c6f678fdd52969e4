package cli

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

// newFeed serves a list in the namespaces of the host, and returns its address, and its certificate in a file.
func newFeed(t *testing.T, h *harness.Host, handle http.HandlerFunc) (url, ca string) {
	t.Helper()
	var server *httptest.Server
	h.Do(func() { server = httptest.NewUnstartedServer(handle) })
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some handshakes are to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, h.Write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
}

// `culprit lists update` says of each source what became of it, and fails if one cannot be fetched.
func TestListsUpdate(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	url, ca := newFeed(t, h, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		switch {
		case r.URL.Path == "/missing":
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == `"1"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			fmt.Fprint(w, "0.0.0.0 localhost\n0.0.0.0 evil.example\n0.0.0.0 b.example\n")
		}
	})
	lists := t.TempDir()
	file, other := filepath.Join(lists, "bad.hosts"), filepath.Join(lists, "other.txt")
	write := func(path, list string) {
		if err := os.WriteFile(path, []byte(list), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(other, "old.example\n")
	config, _ := h.Configure(fmt.Sprintf("lists: {ca: %s, sources: [{url: '%s/hosts', file: %s}, {url: '%s/missing', file: %s}]}\n", ca, url, file, url, other))
	update := func() harness.Result { return h.Culprit("lists", "update", "-c", config) }

	first := update()
	first.Fails(t, 1, "culprit: "+other+" stays as it is: fetch "+url+"/missing: the server says 404 Not Found")
	if want := file + ": 2 names, 1 rejected (hosts)\n"; first.Out != want {
		t.Errorf("%q, want %q", first.Out, want)
	}
	if second := update(); second.Out != file+": not modified\n" {
		t.Errorf("%q", second.Out)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "old.example\n" {
		t.Errorf("%q, %v", text, err)
	}

	// Another file has taken the name: it was not fetched, so it does not count as known.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write(file, strings.Repeat("0.0.0.0 a.example\n", 9))
	update().Fails(t, 1, "warning: "+file+" had 9 names, and now has 2 names")

	trusting, _ := h.Configure(fmt.Sprintf("lists: {sources: [{url: '%s/hosts?2', file: %s}]}\n", url, file))
	h.Culprit("lists", "update", "-c", trusting).Fails(t, 1, "certificate")
	cmd := exec.Command(harness.Programs.Culprit, "lists", "update", "-c", trusting)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+ca)
	h.Command(cmd).Must(t)

	empty, _ := h.Configure("")
	h.Culprit("lists", "update", "-c", empty).Fails(t, 1, "no lists.sources")
}

// What was fetched is looked for at once by a daemon that watches its lists.
func TestUpdateIsLookedFor(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	url, ca := newFeed(t, h, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "# new\nnew.test # C2, 2026-11-20\n") })
	if err := os.Mkdir(filepath.Join(h.Dir, "lists"), 0o755); err != nil {
		t.Fatal(err)
	}
	feed := h.Write("lists/feed.txt", "old.test\n")
	d := h.Hunt(fmt.Sprintf("rules: [{name: feed, list: %s}]\nlists: {ca: %s, sources: [{url: '%s', file: %[1]s}]}\n", feed, ca, url))
	h.Culprit("lists", "update", "-c", d.Config).Must(t)
	s := h.Sender(harness.NewUID())
	asked := 0
	harness.Eventually(t, "the new list is looked for", func() error {
		asked++
		s.Ask(fmt.Sprintf("q%d.new.test", asked))
		hits := d.Hits()
		if len(hits) == 0 {
			return errors.New("there is no hit")
		}
		if entry := hits[0].Entry(); entry != "feed.txt:2 new.test # C2, 2026-11-20" {
			t.Errorf("a hit is of %q", entry)
		}
		return nil
	})
}
