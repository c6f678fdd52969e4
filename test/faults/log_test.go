package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/test/harness"
)

// A log that nobody reads holds up nobody: not the hunt, and not the programs that the gate
// holds meanwhile. When somebody reads again, the log says how much is missing.
func TestLogNobodyReads(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	const count = 400
	config, evidence := h.Configure(harness.Gated + "log: {level: debug}\n")
	// A pipe of one page, which the test has open and does not read.
	fifo := filepath.Join(h.Dir, "log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := unix.FcntlInt(log.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	sh := h.StartAs(0, "sh", "-c", fmt.Sprintf("exec %s run -c %s 2>%s", harness.Programs.Culprit, config, fifo))
	d := &harness.Daemon{Process: sh, Host: h, Config: config, Evidence: evidence}
	harness.Eventually(t, "the rules are in place", func() error {
		if r := h.Culprit("rules", "status", "-c", config); r.Code != 0 {
			return fmt.Errorf("%s", r.Errors)
		}
		return nil
	})
	uid := harness.NewUID()
	sender := h.Sender(uid)
	sender.Ask("first.badzone.test")
	d.Trace(sender.PID, "is there", nil)
	for _, r := range h.Stream(uid, count, 4, harness.Programs.OffenderC, "-n", "LABEL.badzone.test").Await() {
		if r.Took > 4*time.Second {
			t.Errorf("%s took %v: it waited for the gate's deadline of 5 s", r.Label, r.Took)
		}
	}
	d.Capture(uid, "has every hit, and every program from its start", func(c event.Capture) bool {
		return c.Culprit.Hits >= count+1 && c.Culprit.Traces == count+1
	})
	if full, err := unix.IoctlGetInt(int(log.Fd()), unix.TIOCINQ); err != nil || full < os.Getpagesize()/2 {
		t.Errorf("the log has %d bytes that nobody has read, %v: it held up nobody", full, err)
	}
	// It ends all the same.
	d.Signal(syscall.SIGTERM)
	if code := d.Wait(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if got := len(d.Hits("-n", "0")); got < count+1 {
		t.Errorf("%d hits, want %d", got, count+1)
	}
	if out := sh.Output.String(); strings.Contains(out, "panic") {
		t.Error(out)
	}
}
