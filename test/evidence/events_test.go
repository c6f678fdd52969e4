package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/test/harness"
)

// sentEvent is what the tests look at of an event that was sent out.
type sentEvent struct {
	ECS   struct{ Version string }
	Event struct {
		Sequence                          uint64
		ID, Kind, Action, Module, Dataset string
	}
	Culprit struct {
		State string
		Count int
	}
}

// parseEvents reads lines of events.
func parseEvents(t *testing.T, lines string) (all []sentEvent) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var e sentEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("%v: not the line of an event: %q", err, line)
		}
		if e.ECS.Version == "" || e.Event.Module != "culprit" || e.Event.Dataset != "culprit."+e.Event.Action {
			t.Errorf("the event %+v", e)
		}
		all = append(all, e)
	}
	return all
}

// complete fails the test unless the events have the numbers from 1 on, each once, and
// tell of all that the catalogue has, last of how it ended.
func complete(t *testing.T, d *harness.Daemon, all []sentEvent) {
	t.Helper()
	last := map[string]sentEvent{} // by action and id
	for i, e := range all {
		if e.Event.Sequence != uint64(i+1) {
			t.Fatalf("event %d has the number %d: %+v", i+1, e.Event.Sequence, e)
		}
		last[e.Event.Action+" "+e.Event.ID] = e
	}
	want := map[string]string{}
	for _, h := range d.Hits() {
		want["hit "+h.Event.ID] = ""
		if h.Culprit.Proof != nil {
			want["proofs of hits"] += "x"
		}
		if got := last["hit "+h.Event.ID].Culprit.Count; got != h.Culprit.Count {
			t.Errorf("hit %s was told %d times as seen, want %d", h.Event.ID, got, h.Culprit.Count)
		}
	}
	for _, c := range d.Captures() {
		want["capture "+c.Event.ID] = c.Culprit.State
	}
	for _, tr := range d.Traces() {
		want["trace "+tr.Event.ID] = tr.Culprit.State
	}
	proofs := want["proofs of hits"]
	delete(want, "proofs of hits")
	for what, state := range want {
		if e, ok := last[what]; !ok || e.Culprit.State != state {
			t.Errorf("%s: told last as %+v, want the state %q", what, e, state)
		}
	}
	n := 0
	for what := range last {
		ofMany := slices.ContainsFunc([]string{"proof ", "loss ", "snapshot "}, func(kind string) bool { return strings.HasPrefix(what, kind) })
		if _, ok := want[what]; !ok && !ofMany {
			t.Errorf("%s is not in the catalogue", what)
		}
		if strings.HasPrefix(what, "proof ") {
			n++
		}
	}
	if n < len(proofs) {
		t.Errorf("%d proofs were told, the catalogue has %d", n, len(proofs))
	}
}

// Events reach a file each once, with numbers without gaps, though the daemon is killed
// again and again and the file is renamed meanwhile.
func TestEventsFile(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := filepath.Join(h.Dir, "events")
	path := filepath.Join(dir, "events.json")
	config, evidence := h.Configure("events: {file: " + path + "}\n" + harness.LongWindow)
	uid := harness.NewUID()
	var d *harness.Daemon
	for round := range 6 {
		d = h.HuntWith(config, evidence)
		s := h.Sender(uid)
		for i := range 5 {
			s.Ask(fmt.Sprintf("x%d-%d.badzone.test", round, i))
			s.Spawn(fmt.Sprintf("%s -n y%d-%d.badzone.test -a 0", harness.Programs.OffenderC, round, i))
			if i == 2 && round%2 == 0 {
				if err := os.Rename(path, fmt.Sprintf("%s.%d", path, round)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}
		if round == 5 {
			break
		}
		time.Sleep(rand.N(150 * time.Millisecond)) // somewhere in the middle of its work
		d.Signal(syscall.SIGKILL)
		d.Wait()
		d.Gone()
	}
	d.Hit("x5-4.badzone.test")
	d.Stop()

	files, _ := filepath.Glob(path + "*")
	slices.SortFunc(files, func(a, b string) int { return modified(t, a).Compare(modified(t, b)) })
	var all strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if len(files) < 3 {
		t.Errorf("there are only the files %v", files)
	}
	complete(t, d, parseEvents(t, all.String()))
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// Events reach the standard input of a command, which is started again if it ends, and
// go on over a restart of the daemon.
func TestEventsCommand(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	out := filepath.Join(h.Dir, "out")
	// Takes three events, then ends; the first time with a complaint.
	script := h.Write("forward", `#!/bin/sh
[ -e `+out+` ] || echo forward-complains >&2
for i in 1 2 3; do read -r line || exit 0; printf '%s\n' "$line" >>`+out+`; done
`)
	config, evidence := h.Configure("events: {command: [" + script + "]}\n" + harness.LongWindow)
	uid := harness.NewUID()
	var d *harness.Daemon
	for round := range 2 {
		d = h.HuntWith(config, evidence)
		s := h.Sender(uid)
		for i := range 4 {
			name := fmt.Sprintf("x%d-%d.badzone.test", round, i)
			s.Ask(name)
			d.Hit(name)
		}
		harness.Traced(t, s.Process)
		if round == 0 {
			d.AwaitLog("events.command says")
			if !strings.Contains(d.Output.String(), "forward-complains") {
				t.Errorf("the log does not tell what the command says:\n%s", d.Output)
			}
			harness.Eventually(t, "another one is started", func() error {
				if text, _ := os.ReadFile(out); strings.Count(string(text), "\n") <= 3 {
					return errors.New("none was")
				}
				return nil
			})
		}
		d.Stop()
	}
	// What the last one left is sent at the next start: until nothing is.
	all := func() string {
		text, _ := os.ReadFile(out)
		return string(text)
	}
	for starts := 0; strings.Contains(d.Output.String(), "wait to be sent out at the next start") && starts < 10; starts++ {
		before := len(all())
		d = h.HuntWith(config, evidence)
		harness.Eventually(t, "more events are sent out", func() error {
			if len(all()) == before {
				return errors.New("none")
			}
			return nil
		})
		d.Stop()
	}
	complete(t, d, parseEvents(t, all()))
}

// Events reach journald as entries of their own.
func TestEventsJournald(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, evidence := h.Configure("events: {journald: true}\n" + harness.LongWindow)
	h.Do(func() {
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			t.Error(err)
		}
	})
	h.Culprit("run", "-c", config).Fails(t, 1, "events.journald", "no journald")

	var socket *net.UnixConn
	var err error
	h.Do(func() {
		if err = os.MkdirAll("/run/systemd/journal", 0o755); err == nil {
			socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "/run/systemd/journal/socket"})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		buf := make([]byte, 1<<20)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				return
			}
			fields := map[string]string{}
			for line := range strings.Lines(string(buf[:n])) {
				key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				fields[key] = value
			}
			if fields["SYSLOG_IDENTIFIER"] == "culprit-events" && strings.Contains(fields["MESSAGE"], `"sequence":`+fields["CULPRIT_SEQUENCE"]+",") {
				lines <- fields["MESSAGE"] + "\n"
			} else {
				lines <- fmt.Sprint(slices.Sorted(maps.Keys(fields)))
			}
		}
	}()
	d := h.HuntWith(config, evidence)
	s := h.Sender(harness.NewUID())
	s.Ask("x.badzone.test")
	harness.Traced(t, s.Process)
	s.Ask("y.badzone.test")
	d.Hit("y.badzone.test")
	d.Stop()
	socket.Close()
	var all strings.Builder
	for line := range lines {
		all.WriteString(line)
	}
	complete(t, d, parseEvents(t, all.String()))
	if n := len(d.Captures()); n != 1 || d.Captures()[0].Culprit.State != event.StateEnded {
		t.Errorf("%d captures", n)
	}
}
