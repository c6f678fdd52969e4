package faults

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

// crowdScript starts a program of each user in turn, some at a time, until its input ends, and
// says how long each took. It sends its first packet, unless that user had a turn before.
const crowdScript = harness.StartsAs + `
uids, workers = sys.argv[1].split(","), int(sys.argv[2])
def work(w):
    i = w
    while not select.select([0], [], [], 0)[0]:
        began = time.monotonic()
        pid = start(int(uids[i % len(uids)]), "p%d" % i, sys.argv[3:])
        _, status = os.waitpid(pid, 0)
        os.write(1, b"ran p%d %d %d %d\n" % (i, pid, (time.monotonic() - began) * 1e6, os.waitstatus_to_exitcode(status)))
        i += workers
        time.sleep(0.01) # the daemon that starts wants the processor, too
for w in range(workers):
    if os.fork() == 0:
        work(w)
        os._exit(0)
for w in range(workers):
    os.wait()
`

// crowd starts programs of new users without end.
func crowd(h *harness.Host, uids []uint32, workers int, program string, args ...string) *harness.Stream {
	h.T.Helper()
	var list []string
	for _, uid := range uids {
		list = append(list, fmt.Sprint(uid))
	}
	args = append([]string{"-I", "-S", h.Write("crowd.py", crowdScript), strings.Join(list, ","), strconv.Itoa(workers), program}, args...)
	return &harness.Stream{Process: h.StartAs(0, "python3", args...)}
}

func newUIDs(n int) (uids []uint32) {
	for range n {
		uids = append(uids, harness.NewUID())
	}
	return uids
}

// A daemon that is killed at any instant, while first packets of new users come all the time,
// leaves nobody stopped, in each way of the sensor. If its thawer is killed with it, the next
// culprit lets go who stands still.
func TestKillFreezer(t *testing.T) {
	t.Parallel()
	rounds, random := kills(t)
	h := newFreezer(t)
	before := h.Firewall()
	dir := filepath.Join(t.TempDir(), "evidence")
	var configs []string
	for _, way := range []string{"nflog", "rule", "mark"} {
		h.Started++
		configs = append(configs, h.ConfigureIn(dir, frozen(300*time.Millisecond)+fmt.Sprintf("sensor: %s\nevidence: {dir: %s, compress: false}\n", way, dir)))
	}
	uids := newUIDs(400)
	all := crowd(h, uids, 3, harness.Programs.OffenderC, "-n", "LABEL.badzone.test")
	stopped := 0
	for round := range rounds {
		d := h.HuntWith(configs[round%len(configs)], dir)
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		thawer := d.Thawer()
		if thawer == 0 {
			t.Fatalf("round %d: there is no thawer", round)
		}
		both := round%4 == 3
		if both {
			syscall.Kill(thawer, syscall.SIGKILL)
		}
		d.Signal(syscall.SIGKILL)
		if got := d.Wait(); got != 128+int(syscall.SIGKILL) {
			t.Fatalf("round %d: the daemon ended with %d before it was killed", round, got)
		}
		d.Gone()
		stopped += strings.Count(d.Output.String(), `"message":"tracing"`)
		if both {
			if r := h.Culprit("rules", "remove"); r.Code != 0 {
				t.Errorf("round %d: rules remove ended with %d: %s", round, r.Code, r.Errors)
			}
		}
		harness.Within(t, lease+slack, "nobody is traced or stopped", func() error { return allFree(uids) })
		if files := left(h); len(files) > 0 {
			t.Errorf("round %d: they left %v", round, files)
		}
		all.GoesOn(2)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	d := h.HuntWith(configs[0], dir)
	all.Finish(harness.Held)
	d.Stop()
	h.Unharmed(uids[0])
	h.Unchanged(before, "after the last daemon")
	t.Logf("%d programs were traced before the kills", stopped)
	if stopped < int(rounds) {
		t.Errorf("in %d rounds only %d programs were traced: the daemons were killed before they did anything", rounds, stopped)
	}
}

// allFree says which processes of the users are stopped or traced.
func allFree(uids []uint32) error {
	of := map[uint32]bool{}
	for _, uid := range uids {
		of[uid] = true
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		var st syscall.Stat_t
		if syscall.Stat(dir, &st) != nil || !of[st.Uid] {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if state, tracer := harness.Status(pid); tracer != 0 || state == 'T' || state == 't' {
			errs = append(errs, fmt.Errorf("process %d of user %d is in state %c and traced by %d", pid, st.Uid, state, tracer))
		}
	}
	return errors.Join(errs...)
}

// crowdAtOnceScript has a process of each user, who all send at one instant.
const crowdAtOnceScript = `
import os, socket, sys, time
uids = [int(u) for u in sys.argv[1].split(",")]
r, w = os.pipe()
pids = []
for i, uid in enumerate(uids):
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.close(w)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.connect(("127.0.0.1", 53))
            name = b"\6p%05d\7badzone\4test\0" % i
            os.read(r, 1)
            began = time.monotonic()
            s.send(os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1")
            os.getppid()
            os.write(1, b"ran p%05d %d %d 0\n" % (i, os.getpid(), (time.monotonic() - began) * 1e6))
            status = 0
        finally:
            os._exit(status)
    pids.append(pid)
time.sleep(1) # until all wait
os.close(r)
os.close(w)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
`

// 500 users send their first packets at once: as many as there are straces stand still, nobody for
// longer than the deadline, and each is named.
func TestFreezeCrowd(t *testing.T) {
	t.Parallel()
	const count, deadline = 500, time.Second
	h := newFreezer(t)
	d := h.Hunt(frozen(deadline))
	uids := newUIDs(count)
	var list []string
	for _, uid := range uids {
		list = append(list, fmt.Sprint(uid))
	}
	s := &harness.Stream{Process: h.StartAs(0, "python3", "-I", "-S", h.Write("once.py", crowdAtOnceScript), strings.Join(list, ","))}
	if got := len(s.Finish(deadline + lease)); got != count {
		t.Errorf("%d processes have ended, want %d", got, count)
	}
	harness.Eventually(t, "each is named by the kernel", func() error {
		hits, named := d.Hits(), 0
		for _, hit := range hits {
			if hit.Culprit.Sent != nil && hit.Process != nil {
				named++
			}
		}
		if named != count {
			return fmt.Errorf("%d of %d hits are", named, len(hits))
		}
		return nil
	})
	if err := allFree(uids); err != nil {
		t.Error(err)
	}
	lean(d)
	nothingLeft(t, h, d, uids[0])
}
