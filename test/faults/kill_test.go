package faults

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// killRounds is how often TestKillAnywhere kills a daemon, unless CULPRIT_KILLS says
// otherwise. CULPRIT_KILL_SEED repeats what another run did.
const killRounds = 25

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// kills says how often to kill, and when.
func kills(t *testing.T) (rounds int, random *rand.Rand) {
	t.Helper()
	n, seed := fromEnv(t, "CULPRIT_KILLS", killRounds), fromEnv(t, "CULPRIT_KILL_SEED", uint64(time.Now().UnixNano()))
	t.Logf("CULPRIT_KILLS=%d CULPRIT_KILL_SEED=%d", n, seed)
	return int(n), rand.New(rand.NewPCG(seed, 0))
}

// A daemon that is killed at any instant, while packets match and programs of a captured
// user come and go, leaves nobody stopped, traced or held, a catalogue that can be read,
// and traces that the next one marks as partial. That one works: again and again, with the
// same evidence.
func TestKillAnywhere(t *testing.T) {
	t.Parallel()
	rounds, random := kills(t)
	h := harness.NewHost(t, "")
	before := h.Firewall()
	dir := filepath.Join(t.TempDir(), "evidence")
	config := h.ConfigureIn(dir, strings.Replace(harness.Quick, "processes: 100000", "processes: 40", 1)+fmt.Sprintf("evidence: {dir: %s, compress: false}\n", dir))
	byStop := h.Write("stop.yaml", strings.Replace(string(mustRead(t, config)), "gate_deadline", "gate: stop\n  gate_deadline", 1))
	uid, innocent := harness.NewUID(), harness.NewUID()
	hits := h.Stream(uid, 0, 2, harness.Programs.OffenderC, "-n", "LABEL.badzone.test", "-a", "3")
	innocents := h.Stream(innocent, 0, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	idle := h.Idle(uid)

	for round := range rounds {
		with := config
		if round%4 == 3 {
			with = byStop
		}
		began := event.NewID()
		d := h.Launch(with, dir)
		// From when on it is killed after some time: at once, when it is ready, or when it
		// traces. So each third daemon shows that it works.
		if round%3 > 0 {
			d.AwaitLog("ready")
			h.Culprit("rules", "status", "-c", config).Must(t)
			adopted(t, d, began)
		}
		if round%3 == 2 {
			d.AwaitLog("tracing")
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		gate := d.Gate()
		d.Signal(syscall.SIGKILL)
		if gate != 0 && round%4 == 1 {
			syscall.Kill(gate, syscall.SIGKILL) // both at once
		}
		if got := d.Wait(); got != 128+int(syscall.SIGKILL) {
			t.Fatalf("round %d: the daemon ended with %d before it was killed", round, got)
		}
		d.Gone()
		harness.Eventually(t, "nobody is traced or stopped", func() error { return errors.Join(harness.AllFree(uid), harness.AllFree(innocent)) })
		hits.GoesOn(2)
		innocents.GoesOn(1)
		if err := harness.IsFree(idle.PID); err != nil {
			t.Errorf("round %d: process %d: %v", round, idle.PID, err)
		}
		readable(t, h, dir)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}

	began := event.NewID()
	d := h.HuntWith(config, dir)
	adopted(t, d, began)
	d.AwaitLog("tracing")
	hits.Finish(harness.Held)
	innocents.Finish(harness.Held)
	d.Stop()
	h.Unharmed(uid, innocent)
	h.Unchanged(before, "after the last daemon")
	if traces, lost := len(d.Traces()), len(d.Captures()); traces < int(rounds)/3 || lost < int(rounds)/4 {
		t.Errorf("in %d rounds there were %d captures and %d traces: the daemons were killed before they did anything", rounds, lost, traces)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// readable checks the catalogue of a daemon that was killed, if it got as far as to make one.
func readable(t *testing.T, h *harness.Host, dir string) {
	t.Helper()
	path := filepath.Join(dir, "catalogue.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var version int
	var verdict string
	if err := errors.Join(db.QueryRow("PRAGMA integrity_check").Scan(&verdict), db.QueryRow("PRAGMA user_version").Scan(&version)); err != nil || verdict != "ok" {
		t.Errorf("the integrity of the catalogue: %q, %v", verdict, err)
	}
	if version == 0 {
		return // killed before it had tables
	}
	for _, what := range []string{"hits", "captures"} {
		if r := h.Culprit(what, "--evidence", dir, "-n", "3"); r.Code != 0 {
			t.Errorf("culprit %s ended with %d: %s", what, r.Code, r.Errors)
		}
	}
}

// adopted checks that what earlier daemons left is in the catalogue and on the disk
// alike, and marked as partial. The daemon was started after the given id was made; its
// own captures change while we look.
func adopted(t *testing.T, d *harness.Daemon, began string) {
	t.Helper()
	known := map[string]event.Trace{}
	for _, tr := range d.Traces() {
		if tr.Culprit.Capture.ID < began {
			known[tr.File.Path] = tr
		}
	}
	files, err := filepath.Glob(filepath.Join(d.Evidence, "traces", "*", "*.strace"))
	if err != nil {
		t.Fatal(err)
	}
	onDisk := map[string]bool{}
	for _, file := range files {
		if filepath.Base(filepath.Dir(file)) > began {
			continue
		}
		onDisk[file] = true
		tr, is := known[file]
		switch {
		case !is:
			t.Errorf("%s is not in the catalogue", file)
		case tr.Culprit.State == event.StateRunning:
			t.Errorf("%s is said to be running", file)
		case tr.Culprit.State == event.StateLost:
			if text := string(mustRead(t, file)); !strings.HasSuffix(text, "\n# ended: culprit was killed: this trace is partial\n") {
				t.Errorf("%s is lost and does not say so: %q", file, harness.Tail(text))
			}
		}
	}
	for file, tr := range known {
		if !onDisk[file] {
			t.Errorf("the catalogue has a trace without a file: %s, %+v", file, tr.Culprit)
		}
	}
	for _, c := range d.Captures() {
		if state := c.Culprit.State; c.Event.ID < began && state != event.StateLost && state != event.StateEnded {
			t.Errorf("the capture %s of an earlier daemon is said to be %s", c.Event.ID, state)
		}
	}
}
