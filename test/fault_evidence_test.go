package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
)

// cannotWrite is said once for as long as nothing can be recorded, writesAgain when it can.
const (
	cannotWrite = "the catalogue cannot be written: hits are counted, and what is lost is told once it can be"
	writesAgain = "the catalogue can be written again"
)

// says counts how often a daemon has logged a message.
func (d *daemon) says(message string) int {
	return strings.Count(d.output.String(), `"message":"`+message+`"`)
}

// goesOnWithout sends hits that cannot be recorded, and checks that the daemon says so once
// and lives on, and so does what is captured.
func (d *daemon) goesOnWithout(t *testing.T, uid uint32, s *sender, name string) {
	t.Helper()
	for i := range 20 {
		s.ask(fmt.Sprintf("%s%d.badzone.test", name, i))
	}
	d.awaitLog(cannotWrite)
	for range 3 {
		if got := d.host.start(uid, programs.offenderC, "-n", "lives.badzone.test").wait(); got != 0 {
			t.Errorf("a program of the captured user ended with %d", got)
		}
	}
	s.ask(name + ".badzone.test")
	if n := d.says(cannotWrite); n != 1 || d.ended() {
		t.Fatalf("it said %d times that it cannot write, want once; it has ended: %t", n, d.ended())
	}
}

// lostHits adds up what the catalogue says was not recorded.
func (d *daemon) lostHits() (n uint64) {
	d.t.Helper()
	for _, l := range list[event.Loss](d, "losses") {
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
	h := newHost(t, "")
	image, disk := filepath.Join(h.dir, "image"), filepath.Join(h.dir, "disk")
	h.Must(t, "sh", "-c", "truncate -s 64M "+image+" && mkfs.ext4 -q "+image+" && mkdir "+disk)
	mount := func() {
		t.Helper()
		h.Must(t, "mount", "-o", "loop,errors=remount-ro", image, disk)
	}
	mount()
	device := filepath.Base(strings.TrimSpace(h.Must(t, "findmnt", "-no", "SOURCE", disk)))
	dir := filepath.Join(disk, "evidence")
	config := h.configureIn(dir, gated+fmt.Sprintf("evidence: {dir: %s, min_free: 0B}\n", dir))
	d := h.huntWith(config, dir)
	uid := newUID()
	s := d.captured(uid)

	h.Must(t, "sync", "-f", disk) // what is not on the disk by then is lost, as with the power
	h.Must(t, "sh", "-c", "echo a test > /sys/fs/ext4/"+device+"/trigger_fs_error")
	d.goesOnWithout(t, uid, s, "readonly")
	eventually(t, "it says why nothing more is traced", func() error {
		if !strings.Contains(d.output.String(), "read-only file system") {
			return errors.New("it does not")
		}
		return nil
	})
	d.signal(15)
	d.wait() // it cannot note that it ended in good order
	d.gone()
	if !d.logged("culprit ends, and this could not be recorded") {
		t.Error("it does not say that something was lost")
	}
	h.unharmed(uid)

	h.Must(t, "umount", disk)
	h.Must(t, "sh", "-c", "e2fsck -fy "+image+"; test $? -le 2")
	mount()
	next := h.huntWith(config, dir)
	next.hit("first.badzone.test")
	s.ask("repaired.badzone.test")
	next.hit("repaired.badzone.test")
	traced(t, s.process)
	next.stop()
	h.Must(t, "umount", disk)
}

// The evidence directory is moved away while we hunt, replaced, put back, and removed for good.
func TestEvidenceGone(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	s := d.captured(uid)
	aside := d.evidence + ".aside"

	if err := os.Rename(d.evidence, aside); err != nil {
		t.Fatal(err)
	}
	d.goesOnWithout(t, uid, s, "moved")
	if _, err := os.Stat(d.evidence); err == nil {
		t.Errorf("something made %s again", d.evidence)
	}
	if err := os.Mkdir(d.evidence, 0o700); err != nil {
		t.Fatal(err)
	}
	s.ask("replaced.badzone.test")
	h.start(uid, programs.offenderC, "-n", "lives.badzone.test").wait()
	if err := os.Remove(d.evidence); err != nil { // which it would refuse if anything were in it
		t.Fatal(err)
	}
	if err := os.Rename(aside, d.evidence); err != nil {
		t.Fatal(err)
	}
	eventually(t, "hits are recorded again", func() error {
		s.ask("back.badzone.test")
		if !strings.Contains(h.culprit("hits", "--evidence", d.evidence, "-n", "5").out, "back.badzone.test") {
			return errors.New("they are not")
		}
		return nil
	})
	d.awaitLog(writesAgain)
	if n := d.lostHits(); n == 0 {
		t.Error("nothing says what was lost")
	}
	d.nextWhole(t, uid)

	if err := os.RemoveAll(d.evidence); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it notices that it is gone", func() error {
		s.ask("removed.badzone.test")
		if n := d.says(cannotWrite); n != 2 {
			return fmt.Errorf("it said so %d times", n)
		}
		return nil
	})
	h.start(uid, programs.offenderC, "-n", "lives.badzone.test").wait()
	d.signal(15)
	d.wait()
	d.gone()
	h.unharmed(uid)

	next := h.huntWith(d.config, d.evidence)
	s.ask("anew.badzone.test")
	next.hit("anew.badzone.test")
	traced(t, s.process)
	next.stop()
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
	h := newHost(t, "")
	uid := newUID()
	d := h.hunt(fmt.Sprintf("guard: {never_users: [%d]}\n", uid)) // hits only
	s := h.sender(uid)
	s.ask("before.badzone.test")
	d.hit("before.badzone.test")
	other := &sender{process: h.start(0, "python3", "-I", "-S", "-c", lockScript, filepath.Join(d.evidence, "catalogue.db"))}
	do := func(statement string) {
		t.Helper()
		other.say(statement)
		other.reply()
	}
	sent := uint64(1)
	ask := func(name string) {
		t.Helper()
		s.ask(fmt.Sprintf("%s%d.badzone.test", name, sent))
		sent++
	}

	do("BEGIN EXCLUSIVE")
	for range 100 {
		ask("moment")
	}
	do("COMMIT")
	d.hit(fmt.Sprintf("moment%d.badzone.test", sent-1))
	if n, lost := len(d.hits()), d.lostHits(); uint64(n)+lost != sent {
		t.Errorf("%d recorded and %d lost are not the %d that were sent", n, lost, sent)
	}

	do("BEGIN EXCLUSIVE")
	eventually(t, "it gives up to wait", func() error {
		ask("long")
		if !d.logged(cannotWrite) {
			return errors.New("it has not")
		}
		return nil
	})
	ask("last")
	do("COMMIT")
	var recorded, lost uint64
	eventually(t, "every hit is recorded, or counted as lost", func() error {
		if recorded, lost = uint64(len(d.hits())), d.lostHits(); recorded+lost != sent {
			return fmt.Errorf("%d recorded and %d lost are not the %d that were sent", recorded, lost, sent)
		}
		return nil
	})
	t.Logf("%d sent, %d recorded, %d lost", sent, recorded, lost)
	if lost == 0 {
		t.Error("nothing was lost: the lock did not last")
	}
	d.awaitLog(writesAgain)
	d.stop()
}
