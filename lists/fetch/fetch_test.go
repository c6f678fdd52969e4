package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/testkit"
)

// The test's program is the child, too, and a process in the server's namespace that updates a list.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) != 2:
		os.Exit(m.Run())
	case os.Args[1] == "fetch":
		if err := Child(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case os.Args[1] == "update":
		var t task
		if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
			panic(err)
		}
		var err error
		if t.Result, err = t.Fetcher.Update(context.Background(), t.Source); err != nil {
			t.Error = err.Error()
		}
		if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
			panic(err)
		}
	default:
		os.Exit(m.Run())
	}
}

// A task is what the process in the namespace is told, and what it answers.
type task struct {
	Fetcher Fetcher
	Source  config.Source
	Result  Result
	Error   string
}

const nobody = 65534

// A site is a server in a network namespace of its own, and a place for lists.
type site struct {
	*httptest.Server
	net    *testkit.Net
	f      Fetcher
	source config.Source
	asked  []http.Header
	// unchanged makes it say that nothing has changed.
	unchanged bool
}

// newSite serves what handle answers.
func newSite(t *testing.T, handle http.HandlerFunc) *site {
	t.Helper()
	testkit.Root(t)
	s := &site{net: testkit.NewNet(t)}
	s.net.Do(func() {
		s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.asked = append(s.asked, r.Header)
			if s.unchanged {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			handle(w, r)
		}))
	})
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // some handshakes are to fail
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	s.f = Fetcher{User: nobody, Agent: "culprit/test", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
	s.source = config.Source{URL: s.URL + "/list", File: filepath.Join(t.TempDir(), "list.txt"), Format: "auto", MaxBytes: 1 << 20, Timeout: time.Minute}
	return s
}

// start starts a process that fetches the list.
func (s *site) start(t *testing.T) (cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	input, err := json.Marshal(task{Fetcher: s.f, Source: s.source})
	if err != nil {
		t.Fatal(err)
	}
	output = &bytes.Buffer{}
	cmd = exec.CommandContext(t.Context(), "/proc/self/exe", "update")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), output, os.Stderr
	if err := s.net.Start(cmd); err != nil {
		t.Fatal(err)
	}
	return cmd, output
}

// update fetches the list.
func (s *site) update(t *testing.T) (Result, error) {
	t.Helper()
	cmd, output := s.start(t)
	var did task
	if err := errors.Join(cmd.Wait(), json.NewDecoder(output).Decode(&did)); err != nil {
		t.Fatal(err)
	}
	if did.Error != "" {
		return did.Result, errors.New(did.Error)
	}
	return did.Result, nil
}

func (s *site) put(t *testing.T, list string) {
	t.Helper()
	if err := os.WriteFile(s.source.File, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
}

// holds checks what is in the directory of the list: nothing but the list.
func (s *site) holds(t *testing.T, want string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(s.source.File))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != filepath.Base(s.source.File) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
	got, err := os.ReadFile(s.source.File)
	if string(got) != want && (want != "" || !os.IsNotExist(err)) {
		t.Errorf("the list holds %q, %v; want %q", got, err, want)
	}
}

const list = "# x\nevil.example # C2\nb.example\nno domain\n"

func TestUpdate(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, list)
	})
	result, err := s.update(t)
	if err != nil || result.Unchanged || result.Stats.Entries != 2 || result.Stats.Rejects() != 1 || result.Before != -1 {
		t.Fatalf("%+v, %v", result, err)
	}
	s.holds(t, list)
	if info, err := os.Stat(s.source.File); err != nil || info.Mode() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if err := os.Chmod(s.source.File, 0o640); err != nil {
		t.Error(err)
	}
	if s.asked[0].Get("User-Agent") != "culprit/test" {
		t.Error(s.asked[0])
	}
	if result, err := s.update(t); err != nil || !result.Unchanged {
		t.Errorf("again: %+v, %v", result, err)
	}
	s.holds(t, list)

	s.source.URL += "?other" // what was got from elsewhere says nothing about this
	if result, err := s.update(t); err != nil || result.Unchanged || result.Before != 2 || result.Shrunk() {
		t.Errorf("from another URL: %+v, %v", result, err)
	}
	if info, err := os.Stat(s.source.File); err != nil || info.Mode() != 0o640 {
		t.Error("who may read it has changed:", info.Mode(), err)
	}
}

func TestModifiedSince(t *testing.T) {
	t.Parallel()
	changed := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "list.txt", changed, strings.NewReader(list))
	})
	for i, unchanged := range []bool{false, true} {
		if result, err := s.update(t); err != nil || result.Unchanged != unchanged {
			t.Errorf("%d: %+v, %v", i, result, err)
		}
	}
}

// What replaces a list is told when it has lost most of its names.
func TestShrunk(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list) })
	s.put(t, "a.example\nb.example\nc.example\nd.example\ne.example\n")
	if result, err := s.update(t); err != nil || !result.Shrunk() || result.Before != 5 {
		t.Errorf("%+v, %v", result, err)
	}
	s.holds(t, list)
}

// Whatever the server does, the list that is there stays.
func TestRefused(t *testing.T) {
	t.Parallel()
	wait := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
	}
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		change func(*site)
		want   string
	}{
		{"gone", http.NotFound, nil, "the server says 404 Not Found"},
		{"an error page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>\n<body>Sorry</body>\n") }, nil, "HTML"},
		{"no list", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "localhost\nx\n") }, nil, "not one domain in it"},
		{"binary", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("\x7fELF\x00")) }, nil, "not a text"},
		{"redirect to http", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://x.test/%1b", http.StatusFound)
		}, nil, "not HTTPS"},
		{"redirect to a file", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/shadow", http.StatusFound)
		}, nil, "not HTTPS"},
		{"redirect for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, nil, "more than 10 times"},
		{"wrong hash", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list) }, func(s *site) { s.source.SHA256 = strings.Repeat("0", 64) }, "its SHA-256 is "},
		{"hostile status", func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprint(conn, "HTTP/1.1 500 \x1b[31m\u202eevil\r\n\r\n")
			conn.Close()
		}, nil, "the server says 500 \\x1b[31m\\u202eevil"},
		{"huge, and says so", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "99999999"); wait(w, r) }, nil, "99999999 bytes: max_bytes allows 1048576"},
		{"huge, and does not", func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 12 {
				if _, err := fmt.Fprint(w, strings.Repeat("evil.example\n", 100)); err != nil {
					return
				}
			}
		}, nil, "more bytes than the 1048576"},
		{"huge headers", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", strings.Repeat("x", 1<<17)) }, nil, "fetch https://"},
		{"a long tag", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", strings.Repeat("x", 1<<15))
			fmt.Fprint(w, list)
		}, nil, "gave no answer"},
		{"cut in the middle", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, list)
		}, nil, "unexpected EOF"},
		{"cut in a chunk", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, list)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil, "unexpected EOF"},
		{"slow", wait, func(s *site) { s.source.Timeout = 500 * time.Millisecond }, "longer than 500ms"},
		{"slow body", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, list); wait(w, r) }, func(s *site) { s.source.Timeout = 500 * time.Millisecond }, "longer than 500ms"},
		{"nobody's certificate", nil, func(s *site) { s.f.CA = nil }, "certificate"},
		{"no certificate", nil, func(s *site) { s.f.CA = []byte("x") }, "lists.ca has no certificate"},
		{"not modified since never", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, nil, "304"},
		{"as root", nil, func(s *site) { s.f.User = 0 }, "root must not talk to the network"},
		{"nobody listens", nil, func(s *site) { s.source.URL = "https://127.0.0.1:1/" }, "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) { tt.handle(w, r) })
			s.put(t, "old.example\n")
			if tt.change != nil {
				tt.change(s)
			}
			result, err := s.update(t)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v; want an error with %q", result, err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("not escaped: %q", err)
			}
			s.holds(t, "old.example\n")
		})
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		fmt.Fprint(w, list)
	})
	sum := sha256.Sum256([]byte(list))
	s.source.SHA256 = strings.ToUpper(hex.EncodeToString(sum[:]))
	if _, err := s.update(t); err != nil {
		t.Error(err)
	}
	s.holds(t, list)

	// The file is another one now, and the server would say that its own has not changed.
	if err := os.Truncate(s.source.File, 3); err != nil {
		t.Fatal(err)
	}
	s.unchanged = true
	if _, err := s.update(t); err == nil || !strings.Contains(err.Error(), "its SHA-256 is ") {
		t.Error(err)
	}
}

// Who talks to the network is nobody: without groups, capabilities and a way to get any.
func TestRights(t *testing.T) {
	t.Parallel()
	status, updater := make(chan string, 1), make(chan int, 1)
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		text, err := os.ReadFile("/proc/" + childOf(t, <-updater) + "/status")
		if err != nil {
			t.Error(err)
		}
		status <- string(text)
		fmt.Fprint(w, list)
	})
	cmd, _ := s.start(t)
	updater <- cmd.Process.Pid
	got := <-status
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "Groups:\t \n",
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not %q in:\n%s", want, got)
		}
	}
}

// childOf returns the PID of the one child of a process.
func childOf(t *testing.T, pid int) (child string) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Error(err)
	}
	for _, thread := range threads {
		text, _ := os.ReadFile(thread)
		child += string(text)
	}
	return strings.TrimSpace(child)
}

// A child that does not end by itself is killed.
func TestStuck(t *testing.T) {
	t.Parallel()
	updater := make(chan int, 1)
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) {
		child, err := strconv.Atoi(childOf(t, <-updater))
		if err == nil {
			err = unix.Kill(child, unix.SIGSTOP)
		}
		if err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	s.source.Timeout = 3 * time.Second // time to stop the child in
	s.put(t, "old.example\n")
	cmd, output := s.start(t)
	updater <- cmd.Process.Pid
	var did task
	if err := errors.Join(cmd.Wait(), json.NewDecoder(output).Decode(&did)); err != nil || !strings.Contains(did.Error, "did not end in time") {
		t.Errorf("%q, %v", did.Error, err)
	}
	s.holds(t, "old.example\n")
}

// The child refuses to run with rights, whoever starts it.
func TestChildRefusesRights(t *testing.T) {
	testkit.Root(t)
	if err := Child(t.Context(), strings.NewReader("{}"), nil); err == nil || !strings.Contains(err.Error(), "must not run as root") {
		t.Error(err)
	}
}

// When whoever waits for the child is killed, it ends. What was left behind goes at the next update, but nothing of one that
// is under way.
func TestKilled(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/other" {
			fmt.Fprint(w, list)
			return
		}
		asked <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	slow := s.source
	first, _ := s.start(t)
	<-asked
	s.source.URL = s.URL + "/other"
	if _, err := s.update(t); err != nil {
		t.Error(err)
	}
	if left := temporaries(t, slow.File); left != 1 {
		t.Errorf("%d temporary files while one update is under way", left)
	}
	if err := first.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-gone
	_ = first.Wait()
	if _, err := s.update(t); err != nil {
		t.Error(err)
	}
	s.holds(t, list)
}

func temporaries(t *testing.T, path string) int {
	all, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.tmp"))
	if err != nil {
		t.Error(err)
	}
	return len(all)
}
