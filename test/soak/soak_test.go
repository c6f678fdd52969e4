package soak

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// How long TestSoak lasts, and where it leaves its measurements (make soak).
var (
	soakTime = cmp.Or(os.Getenv("SOAK"), "12s")
	soakFile = os.Getenv("SOAK_FILE")
)

// soakScript, run by root, asks 80 times a second from four users' processes that
// stay, and starts 20 programs a second of a fifth, which ask once. It writes down
// each name before it is asked. Arguments: the file, the C offender, five UIDs.
const soakScript = `
import os, select, subprocess, socket, sys, time
log, offender, *uids = sys.argv[1:]
uids = [int(u) for u in uids]
names = open(log, "w", buffering=1)
def query(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"
pipes = []
for uid in uids[:4]:
    r, w = os.pipe()
    if os.fork() == 0:
        os.close(w)
        os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for line in os.fdopen(r):
            try: s.sendto(query(line.strip()), ("127.0.0.1", 53))
            except OSError as e: print("send:", e, flush=True)
        os._exit(0)
    os.close(r)
    pipes.append(w)
n, running, begin = 0, [], time.monotonic()
while not select.select([sys.stdin], [], [], max(0, begin + n / 100 - time.monotonic()))[0]:
    name = "%s%d.badzone.test" % ("p" if n % 5 == 4 else "s", n)
    names.write("%s %.6f\n" % (name, time.time()))
    if n % 5 == 4:
        running = [p for p in running if p.poll() is None]
        running.append(subprocess.Popen([offender, "-n", name], user=uids[4], group=uids[4], extra_groups=[], stdin=subprocess.DEVNULL))
    else:
        os.write(pipes[n % 5], (name + "\n").encode())
    n += 1
for w in pipes: os.close(w)
for p in running: p.wait()
for _ in pipes: os.wait()
print("done", flush=True)
`

// A soak is what TestSoak knows.
type soak struct {
	*testing.T
	h                *harness.Host
	d                *harness.Daemon
	config, evidence string
	events           string // the file that they are sent to

	begin        time.Time
	windows      [][2]time.Time // when hits may be missing
	faults       map[string]int
	files, taken int               // how often that was renamed, and how many of those were read
	sequence     uint64            // of the last event
	hits         map[string]string // ids, by name
	proven       map[string]bool   // ids of hits
	explained                      // counts of losses
	table        strings.Builder   // what is measured, each second
	rss          []int             // of this daemon, in KiB
	fds          []int
}

// explained are losses that the events tell of, by what was lost.
type explained map[string]uint64

// TestSoak hunts for long, with faults at random. Every packet is a hit, or was sent
// while a fault was on, or is counted as lost; every event arrives once, with numbers
// without gaps; memory and descriptors do not grow.
func TestSoak(t *testing.T) {
	lasts, err := time.ParseDuration(soakTime)
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{T: t, h: harness.NewHost(t, "nft"), begin: time.Now(), faults: map[string]int{}, hits: map[string]string{}, proven: map[string]bool{}, explained: explained{}}
	s.events = filepath.Join(s.h.Dir, "events", "events.json")
	s.config, s.evidence = s.h.Configure(`
capture: {levels: [{hits: 1, processes: 100000, window: 10m, strings: 512}]}
log: {format: text, level: info}
events: {file: ` + s.events + `}
`)
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.config = s.h.Write("soak.yaml", strings.Replace(string(text), "evidence: {", "evidence: {keep: 5m, max_bytes: 1GiB, ", 1))
	s.start()
	uids := []string{}
	for range 5 {
		uids = append(uids, fmt.Sprint(harness.NewUID()))
	}
	names := filepath.Join(s.h.Dir, "names")
	load := s.h.StartCommandAs(0, exec.Command("python3", append([]string{"-I", "-S", "-c", soakScript, names, harness.Programs.OffenderC}, uids...)...))

	seed := uint64(time.Now().UnixNano())
	t.Logf("for %v, with the seed %d", lasts, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pace := max(1500*time.Millisecond, min(lasts/60, 30*time.Second))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	next := s.begin.Add(5 * time.Second)
	for now := range tick.C {
		s.measure()
		s.read()
		if now.Sub(s.begin) > lasts {
			break
		}
		if now.After(next) {
			s.fault(random)
			next = time.Now().Add(pace/2 + time.Duration(random.Int64N(int64(pace))))
		}
		if load.Ended() || s.d.Ended() {
			t.Fatalf("somebody ended: the load %v, the daemon %v\n%s", load.Ended(), s.d.Ended(), load.Output)
		}
	}
	load.Say("enough")
	if load.Wait() != 0 || !strings.HasSuffix(load.Output.String(), "done\n") {
		t.Errorf("the load says %s", load.Output)
	}
	s.steady()
	s.d.Stop()
	s.read()
	s.read()
	s.judge(names)
	if soakFile != "" {
		if err := os.WriteFile(soakFile, []byte(s.table.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func (s *soak) start() {
	s.d = s.h.HuntWith(s.config, s.evidence)
	s.rss, s.fds = nil, nil
}

// fault does something bad, and notes when hits may be missing for it.
func (s *soak) fault(random *rand.Rand) {
	type fault struct {
		name   string
		do     func() // returns when it is over
		misses bool   // packets may not be seen
	}
	logs := func(message string, do func()) func() {
		return func() {
			before := strings.Count(s.d.Output.String(), message)
			do()
			harness.Eventually(s, message, func() error {
				if strings.Count(s.d.Output.String(), message) == before {
					return fmt.Errorf("not logged since")
				}
				return nil
			})
		}
	}
	healed := func(args ...string) func() {
		return logs("our rules are in place again", func() { s.h.Must(s, args[0], args[1:]...) })
	}
	straces := func(signals ...syscall.Signal) func() {
		return func() {
			for _, pid := range s.d.Straces() {
				for _, sig := range signals {
					syscall.Kill(pid, sig)
				}
			}
		}
	}
	faults := []fault{
		{"chain flushed", healed("iptables", "-t", "raw", "-F", "CULPRIT"), true},
		{"OUTPUT flushed", healed("iptables", "-t", "raw", "-F", "OUTPUT"), true},
		{"jump moved", healed("iptables", "-t", "raw", "-I", "OUTPUT", "-p", "tcp", "-j", "ACCEPT"), true},
		{"straces killed", straces(syscall.SIGKILL), false},
		{"reloaded", logs("reloaded", func() { s.d.Signal(syscall.SIGHUP) }), false},
		{"thawer killed", func() {
			if pid := s.d.Thawer(); pid != 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}, false},
		{"daemon stopped for 300 ms", func() {
			s.d.Signal(syscall.SIGSTOP)
			time.Sleep(300 * time.Millisecond) // is the fault
			s.d.Signal(syscall.SIGCONT)
		}, false},
		{"daemon killed", func() {
			s.d.Signal(syscall.SIGKILL)
			s.d.Wait()
			s.d.Gone()
			s.start()
		}, true},
	}
	f := faults[random.IntN(len(faults))]
	// What was read in the last moments before a kill is not on the disk.
	from := time.Now().Add(-time.Second)
	f.do()
	if f.misses {
		s.windows = append(s.windows, [2]time.Time{from, time.Now().Add(100 * time.Millisecond)})
	}
	s.faults[f.name]++
	fmt.Fprintf(&s.table, "# %.0f %s\n", from.Sub(s.begin).Seconds()+1, f.name)
}

var vmRSS = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

func rssOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := vmRSS.FindSubmatch(text)
	if m == nil {
		return 0
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return kb
}

// measure adds a line to the table: seconds; MiB of the daemon and of the gate;
// descriptors, straces, hits so far.
func (s *soak) measure() {
	rss := rssOf(s.d.PID)
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.d.PID))
	s.rss, s.fds = append(s.rss, rss), append(s.fds, len(fds))
	fmt.Fprintf(&s.table, "%.0f %.1f %.1f %d %d %d\n", time.Since(s.begin).Seconds(),
		float64(rss)/1024, float64(rssOf(s.d.Thawer()))/1024, len(fds), len(s.d.Straces()), len(s.hits))
}

// read takes the events of the file that was renamed a second ago, and renames the next.
func (s *soak) read() {
	renamed := func(n int) string { return fmt.Sprint(s.events, ".", n) }
	if s.taken < s.files {
		s.taken++
		text, err := os.ReadFile(renamed(s.taken))
		if err != nil {
			s.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			s.take(line)
		}
		// One stays, from which a daemon that starts learns what got out.
		os.Remove(renamed(s.taken - 1))
	}
	if os.Rename(s.events, renamed(s.files+1)) == nil {
		s.files++
	}
}

// take takes one event.
func (s *soak) take(line string) {
	var e struct {
		Event struct {
			Sequence   uint64
			ID, Action string
		}
		DNS     event.DNS
		Culprit struct {
			Hit    event.Reference
			Code   event.LossCode
			Detail string
			Count  uint64
		}
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		s.Fatalf("%v: not an event: %q", err, line)
	}
	if e.Event.Sequence != s.sequence+1 {
		s.Fatalf("event %d follows event %d", e.Event.Sequence, s.sequence)
	}
	s.sequence = e.Event.Sequence
	switch e.Event.Action {
	case event.ActionHit:
		s.hits[e.DNS.Question.Name] = e.Event.ID
	case event.ActionProof:
		s.proven[e.Culprit.Hit.ID] = true
	case event.ActionLoss:
		s.explained[words.Loss(event.LossDetail{Code: e.Culprit.Code, Detail: e.Culprit.Detail})] += e.Culprit.Count
	}
}

// steady fails the test if the daemon, which has been there for a while, has grown:
// its last quarter is compared with its second.
func (s *soak) steady() {
	n := len(s.rss)
	s.Logf("the last daemon: %d MiB at the most, %d descriptors", slices.Max(s.rss)>>10, slices.Max(s.fds))
	if slices.Max(s.rss) > 256<<10 {
		s.Errorf("it needed %d MiB", slices.Max(s.rss)>>10)
	}
	if n < 120 {
		return
	}
	median := func(of []int) int { return slices.Sorted(slices.Values(of))[len(of)/2] }
	if before, after := median(s.rss[n/4:n/2]), median(s.rss[3*n/4:]); after > before*5/4+16<<10 {
		s.Errorf("its memory grew from %d to %d MiB", before>>10, after>>10)
	}
	if before, after := median(s.fds[n/4:n/2]), median(s.fds[3*n/4:]); after > before+20 {
		s.Errorf("its descriptors grew from %d to %d", before, after)
	}
}

// judge compares what was sent with what was seen.
func (s *soak) judge(names string) {
	text, err := os.ReadFile(names)
	if err != nil {
		s.Fatal(err)
	}
	sent, missing, excused := 0, 0, 0
	programs, proven := 0, 0
	for line := range strings.Lines(string(text)) {
		name, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		seconds, _ := strconv.ParseFloat(at, 64)
		sent++
		id, seen := s.hits[name]
		if strings.HasPrefix(name, "p") && seen {
			programs++
			if s.proven[id] {
				proven++
			}
		}
		switch when := time.UnixMicro(int64(seconds * 1e6)); {
		case seen:
		case slices.ContainsFunc(s.windows, func(w [2]time.Time) bool { return when.After(w[0]) && when.Before(w[1]) }):
			excused++
		default:
			missing++
			s.Logf("missing: %s, sent at %.1f s", name, when.Sub(s.begin).Seconds())
		}
	}
	var counted uint64
	for what, n := range s.explained {
		s.Logf("told as lost: %d %s", n, what)
		if strings.Contains(what, "packets") && !strings.Contains(what, "without our firewall rules") || strings.Contains(what, "not recorded") {
			counted += n
		}
	}
	s.Logf("%d packets sent, %d hits, %d missing while a fault was on, %d otherwise; %d told as lost", sent, len(s.hits), excused, missing, counted)
	s.Logf("%d of %d hits of programs that live 2 ms are proven; %d events; faults: %v", proven, programs, s.sequence, s.faults)
	if uint64(missing) > counted {
		s.Errorf("%d packets are missing without a reason", uint64(missing)-counted)
	}
	if sent < 300 || programs == 0 || proven == 0 {
		s.Errorf("this was no load")
	}
}
