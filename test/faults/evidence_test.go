package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// cannotWrite is said once for as long as nothing can be recorded, writesAgain when it can.
const (
	cannotWrite = "the catalogue cannot be written: hits are only counted; losses are recorded once it can be written again"
	writesAgain = "the catalogue can be written again"
)

// says counts how often a daemon has logged a message.
func says(d *harness.Daemon, message string) int {
	return strings.Count(d.Output.String(), `"message":"`+message+`"`)
}

// goesOnWithout sends hits that cannot be recorded, and checks that the daemon says so once
// and lives on, and so does what is captured.
func goesOnWithout(t *testing.T, d *harness.Daemon, uid uint32, s *harness.Sender, name string) {
	t.Helper()
	for i := range 20 {
		s.Ask(fmt.Sprintf("%s%d.badzone.test", name, i))
	}
	d.AwaitLog(cannotWrite)
	for range 3 {
		if got := d.Host.StartAs(uid, harness.Programs.OffenderC, "-n", "lives.badzone.test").Wait(); got != 0 {
			t.Errorf("a program of the captured user ended with %d", got)
		}
	}
	s.Ask(name + ".badzone.test")
	if n := says(d, cannotWrite); n != 1 || d.Ended() {
		t.Fatalf("it said %d times that it cannot write, want once; it has ended: %t", n, d.Ended())
	}
}

// lostHits adds up what the catalogue says was not recorded.
func lostHits(d *harness.Daemon) (n uint64) {
	d.T.Helper()
	for _, l := range harness.List[event.Loss](d, "losses") {
		if l.Culprit.Code == event.LossUnrecorded {
			n += l.Culprit.Count
		}
	}
	return n
}

// The file system of the evidence becomes read-only, as ext4's does after an error: the hunt
// goes on, and when it has been repaired the next daemon finds what there was.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	image, disk := filepath.Join(h.Dir, "image"), filepath.Join(h.Dir, "disk")
	h.Must(t, "sh", "-c", "truncate -s 64M "+image+" && mkfs.ext4 -q "+image+" && mkdir "+disk)
	mount := func() {
		t.Helper()
		h.Must(t, "mount", "-o", "loop,errors=remount-ro", image, disk)
	}
	mount()
	device := filepath.Base(strings.TrimSpace(h.Must(t, "findmnt", "-no", "SOURCE", disk)))
	dir := filepath.Join(disk, "evidence")
	config := h.ConfigureIn(dir, harness.Gated+fmt.Sprintf("evidence: {dir: %s, min_free: 0B}\n", dir))
	d := h.HuntWith(config, dir)
	uid := harness.NewUID()
	s := d.Captured(uid)

	h.Must(t, "sync", "-f", disk) // what is not on the disk by then is lost, as with the power
	h.Must(t, "sh", "-c", "echo a test > /sys/fs/ext4/"+device+"/trigger_fs_error")
	goesOnWithout(t, d, uid, s, "readonly")
	harness.Eventually(t, "it says why nothing more is traced", func() error {
		if !strings.Contains(d.Output.String(), "read-only file system") {
			return errors.New("it does not")
		}
		return nil
	})
	d.Signal(15)
	d.Wait() // it cannot note that it ended in good order
	d.Gone()
	if !d.Logged("culprit stops, and could not record some of what it found") {
		t.Error("it does not say that something was lost")
	}
	h.Unharmed(uid)

	h.Must(t, "umount", disk)
	h.Must(t, "sh", "-c", "e2fsck -fy "+image+"; test $? -le 2")
	mount()
	next := h.HuntWith(config, dir)
	next.Hit("first.badzone.test")
	s.Ask("repaired.badzone.test")
	next.Hit("repaired.badzone.test")
	harness.Traced(t, s.Process)
	next.Stop()
	h.Must(t, "umount", disk)
}

// The evidence directory is moved away while we hunt, replaced, put back, and removed for good.
func TestEvidenceGone(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	s := d.Captured(uid)
	aside := d.Evidence + ".aside"

	if err := os.Rename(d.Evidence, aside); err != nil {
		t.Fatal(err)
	}
	goesOnWithout(t, d, uid, s, "moved")
	if _, err := os.Stat(d.Evidence); err == nil {
		t.Errorf("something made %s again", d.Evidence)
	}
	if err := os.Mkdir(d.Evidence, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Ask("replaced.badzone.test")
	h.StartAs(uid, harness.Programs.OffenderC, "-n", "lives.badzone.test").Wait()
	if err := os.Remove(d.Evidence); err != nil { // which it would refuse if anything were in it
		t.Fatal(err)
	}
	if err := os.Rename(aside, d.Evidence); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "hits are recorded again", func() error {
		s.Ask("back.badzone.test")
		if !strings.Contains(h.Culprit("hits", "--evidence", d.Evidence, "-n", "5").Out, "back.badzone.test") {
			return errors.New("they are not")
		}
		return nil
	})
	d.AwaitLog(writesAgain)
	if n := lostHits(d); n == 0 {
		t.Error("nothing says what was lost")
	}
	d.NextWhole(t, uid)

	if err := os.RemoveAll(d.Evidence); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "it notices that it is gone", func() error {
		s.Ask("removed.badzone.test")
		if n := says(d, cannotWrite); n != 2 {
			return fmt.Errorf("it said so %d times", n)
		}
		return nil
	})
	h.StartAs(uid, harness.Programs.OffenderC, "-n", "lives.badzone.test").Wait()
	d.Signal(15)
	d.Wait()
	d.Gone()
	h.Unharmed(uid)

	next := h.HuntWith(d.Config, d.Evidence)
	s.Ask("anew.badzone.test")
	next.Hit("anew.badzone.test")
	harness.Traced(t, s.Process)
	next.Stop()
}

const lockScript = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    db.execute(line.strip())
    print("done", flush=True)
`

// Somebody else locks the catalogue. For a moment nothing is lost; if it lasts, what is lost
// is counted, to the last hit.
func TestCatalogueLocked(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid := harness.NewUID()
	d := h.Hunt(fmt.Sprintf("guard: {never_users: [%d]}\n", uid)) // hits only
	s := h.Sender(uid)
	s.Ask("before.badzone.test")
	d.Hit("before.badzone.test")
	other := &harness.Sender{Process: h.StartAs(0, "python3", "-I", "-S", "-c", lockScript, filepath.Join(d.Evidence, "catalogue.db"))}
	do := func(statement string) {
		t.Helper()
		other.Say(statement)
		other.Reply()
	}
	sent := uint64(1)
	ask := func(name string) {
		t.Helper()
		s.Ask(fmt.Sprintf("%s%d.badzone.test", name, sent))
		sent++
	}

	do("BEGIN EXCLUSIVE")
	for range 100 {
		ask("moment")
	}
	do("COMMIT")
	d.Hit(fmt.Sprintf("moment%d.badzone.test", sent-1))
	if n, lost := len(d.Hits()), lostHits(d); uint64(n)+lost != sent {
		t.Errorf("%d recorded and %d lost are not the %d that were sent", n, lost, sent)
	}

	do("BEGIN EXCLUSIVE")
	harness.Eventually(t, "it gives up to wait", func() error {
		ask("long")
		if !d.Logged(cannotWrite) {
			return errors.New("it has not")
		}
		return nil
	})
	ask("last")
	do("COMMIT")
	var recorded, lost uint64
	harness.Eventually(t, "every hit is recorded, or counted as lost", func() error {
		if recorded, lost = uint64(len(d.Hits())), lostHits(d); recorded+lost != sent {
			return fmt.Errorf("%d recorded and %d lost are not the %d that were sent", recorded, lost, sent)
		}
		return nil
	})
	t.Logf("%d sent, %d recorded, %d lost", sent, recorded, lost)
	if lost == 0 {
		t.Error("nothing was lost: the lock did not last")
	}
	d.AwaitLog(writesAgain)
	d.Stop()
}
