package gate

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

// Captures by hand use the gate as well.
func TestGateByHand(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	h.Idle(uid)
	out := filepath.Join(h.Dir, "out")
	config, _ := h.Configure(harness.ByFanotify(harness.Gated))
	p := h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "1000", "--for", "10m", "--out", out, "-c", config)
	harness.Printed(t, p, 1)
	gate := &harness.Daemon{Process: p, Host: h}
	harness.Eventually(t, "the gate has marks", func() error {
		if pid := gate.Gate(); pid == 0 || !strings.Contains(fdsOf(pid), "fanotify") || marks(t, pid) == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	const count = 20
	runs := h.Stream(uid, count, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test").Await()
	var missing []string
	for _, r := range runs {
		for limit := time.Now().Add(5 * time.Second); !strings.Contains(p.Output.String(), fmt.Sprintf("process %d ", r.PID)); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				missing = append(missing, fmt.Sprintf("%+v", r))
				break
			}
		}
	}
	p.Signal(syscall.SIGINT)
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	if missing != nil || t.Failed() {
		t.Errorf("it has not told the end of %v:\n%s", missing, p.Output)
	}
	files, err := filepath.Glob(out + "/*")
	if err != nil || len(files) != count+1 {
		t.Errorf("the directory holds %d files, want %d", len(files), count+1)
	}
	bodies := map[string]string{}
	for _, file := range files {
		head, _, body := harness.ReadTrace(t, file)
		pid, _, _ := strings.Cut(head["process"], ",")
		bodies[pid] = body
	}
	for _, r := range runs {
		if !harness.Asks(bodies[fmt.Sprint(r.PID)], r.Label) {
			t.Errorf("no trace holds the query of %s:\n%s", r.Label, bodies[fmt.Sprint(r.PID)])
		}
	}
	h.Unharmed(uid)
}

// The last program that a capture may trace is held like any other: the gate is not
// let go of between the moment the program is found and the moment it is held.
func TestGateLastProgram(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, _ := h.Configure(harness.ByFanotify(harness.Gated))
	for round := range 8 {
		uid := harness.NewUID()
		p := h.StartAs(0, harness.Programs.Culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "1", "--for", "10m", "--out", filepath.Join(h.Dir, fmt.Sprint("out", round)), "-c", config)
		gate := &harness.Daemon{Process: p, Host: h}
		harness.Eventually(t, "the gate has marks", func() error {
			if pid := gate.Gate(); pid == 0 || !strings.Contains(fdsOf(pid), "fanotify") || marks(t, pid) == 0 {
				return errors.New("it has not")
			}
			return nil
		})
		runs := h.Stream(uid, 1, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test").Await()
		select {
		case <-p.Done:
		case <-time.After(harness.Patience):
			p.Signal(syscall.SIGINT)
			p.Wait()
		}
		if said := p.Output.String(); !strings.Contains(said, "its limit of 1 process was reached") || !strings.Contains(said, fmt.Sprintf("process %d ", runs[0].PID)) {
			t.Fatalf("round %d: the program %+v was not traced:\n%s", round, runs[0], said)
		}
	}
}
