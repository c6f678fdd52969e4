package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/testkit"
)

//go:embed catch_launcher.c
var launcherSource []byte

// catchLimit is the longest that a row may take; then everything of it is killed. A
// machine whose execve waits for a gate that does not answer would stand still.
const catchLimit = 5 * time.Minute

// catchPaths is where the programs are, in a directory that every user can read.
type catchPaths struct{ dir, launch, offender string }

func catchPrograms(b *testing.B) catchPaths {
	b.Helper()
	dir, err := os.MkdirTemp("", "culprit-catch")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	p := catchPaths{dir, filepath.Join(dir, "launcher"), filepath.Join(dir, "offender")}
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	for path, text := range map[string][]byte{p.launch + ".c": launcherSource, filepath.Join(dir, "catch.php"): []byte(catchPHP)} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	for to, from := range map[string]string{p.launch: p.launch + ".c", p.offender: "../offender/offender.c"} {
		if out, err := exec.Command(cc, "-O2", "-Wall", "-static", "-o", to, from).CombinedOutput(); err != nil {
			b.Fatalf("build %s: %v\n%s", from, err, out)
		}
	}
	return p
}

// A launch is a launcher that waits for its start.
type launch struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bytes.Buffer
}

// A launched program has ended.
type launched struct {
	pid    int
	took   time.Duration
	status int // as wait(2) has it
}

// allLaunched is what a launcher has done.
type allLaunched struct {
	programs map[string]launched // by label
	took     time.Duration
}

// start starts the launcher for one way of starting programs.
func (p catchPaths) start(b *testing.B, n *testkit.Net, w way, prefix string, count int) *launch {
	b.Helper()
	if w.each > 1 {
		count = (count + w.each - 1) / w.each
	}
	var args []string
	for _, a := range w.command {
		args = append(args, strings.NewReplacer("OFFENDER", p.offender, "DIR", p.dir).Replace(a))
	}
	return p.launcher(b, n, w.asUser, offenderUID, w.mode, count, w.atATime, prefix, args...)
}

func (p catchPaths) launcher(b *testing.B, n *testkit.Net, own bool, uid int, mode string, count, atATime int, prefix string, command ...string) *launch {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), catchLimit)
	args := append([]string{mode, strconv.Itoa(uid), strconv.Itoa(count), strconv.Itoa(atATime), prefix}, command...)
	l := &launch{cmd: exec.CommandContext(ctx, p.launch, args...), stdout: new(bytes.Buffer)}
	l.cmd.Dir, l.cmd.Stdout, l.cmd.Stderr = "/", l.stdout, os.Stderr
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if own {
		l.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	var err error
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := n.Start(l.cmd); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		l.cmd.Process.Kill()
		l.cmd.Wait()
		cancel()
	})
	return l
}

// run lets the launcher do its work and fails the benchmark if a program failed.
func (l *launch) run(b *testing.B) allLaunched {
	b.Helper()
	fmt.Fprintln(l.stdin, "go")
	if err := l.cmd.Wait(); err != nil {
		b.Fatalf("the launcher: %v", err)
	}
	all := allLaunched{programs: map[string]launched{}}
	for line := range strings.Lines(l.stdout.String()) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "\tran ") && len(f) == 5:
			var p launched
			p.pid, _ = strconv.Atoi(f[2])
			ns, _ := strconv.ParseInt(f[3], 10, 64)
			p.took = time.Duration(ns)
			p.status, _ = strconv.Atoi(f[4])
			if p.status != 0 {
				b.Errorf("program %s ended with status %#x", f[1], p.status)
			}
			all.programs[f[1]] = p
		case strings.HasPrefix(line, "\tall ") && len(f) == 2:
			ns, _ := strconv.ParseInt(f[1], 10, 64)
			all.took = time.Duration(ns)
		}
	}
	if len(all.programs) == 0 || all.took == 0 {
		b.Fatalf("the launcher says %q", l.stdout)
	}
	return all
}

// result is the row without what the traces tell.
func (a allLaunched) result(w way) result {
	r := result{way: w, started: len(a.programs) * max(1, w.each)}
	var lives []time.Duration
	for _, p := range a.programs {
		lives = append(lives, p.took)
	}
	r.life = quantile(lives, 0.5)
	r.perSecond = float64(r.started) / a.took.Seconds()
	return r
}

// A sighting is what all traces hold of one program.
type sighting struct{ traced, fromStart, query bool }

// sightings are by label, and by "pid N" for programs that no trace names.
type sightings map[string]*sighting

func (s sightings) at(key string) *sighting {
	if s[key] == nil {
		s[key] = new(sighting)
	}
	return s[key]
}

// catchLabel is how the launcher names programs, and PHP the three of each.
var catchLabel = regexp.MustCompile(`r\d\dn\d{6}[abc]?`)

// read looks through a trace for programs. It began with process pid, whose command
// line then was known or not.
func (s sightings) read(b *testing.B, path string, pid int, fromStart bool, commandLine string) {
	b.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.Error(err)
		return
	}
	defer file.Close()
	main := strconv.Itoa(pid)
	whole := map[string]bool{main: fromStart} // by the PID at the beginning of lines
	names := map[string][]string{}            // labels of a PID
	sent := map[string]bool{}
	name := func(pid, label string) { names[pid] = append(names[pid], label) }
	if label := catchLabel.FindString(commandLine); label != "" {
		name(main, label)
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		who, call, ok := strings.Cut(line, " ")
		if _, err := strconv.Atoi(who); err != nil || !ok {
			continue // our header
		}
		if _, known := whole[who]; !known {
			whole[who] = who != main // strace followed it from its fork
		}
		_, call, _ = strings.Cut(strings.TrimLeft(call, " "), " ") // the time
		label := catchLabel.FindString(call)
		if label == "" {
			continue
		}
		switch {
		case strings.HasPrefix(call, "execve("):
			// A shell's command line has the label of a program that it starts.
			name(who, label)
			whole[who] = true
		case strings.HasPrefix(call, "sendto("), strings.HasPrefix(call, "sendmsg("), strings.HasPrefix(call, "sendmmsg("), strings.HasPrefix(call, "write("):
			name(who, label)
			sent[label] = sent[label] || strings.Contains(call, label+`\7badzone`)
		}
	}
	for who, start := range whole {
		for _, key := range append(names[who], "pid "+who) {
			at := s.at(key)
			at.traced = true
			at.fromStart = at.fromStart || start
			at.query = at.query || sent[key]
		}
	}
}

// count fills in the row. A program without execve in its life has no label but in
// its query, so its PID counts, too; PIDs do not come again in so short a time.
func (s sightings) count(r *result, all allLaunched) {
	for label, p := range all.programs {
		labels := []string{label}
		if r.each > 1 {
			labels = []string{label + "a", label + "b", label + "c"}
		}
		for _, label := range labels {
			at := *s.at(label)
			if r.mode == "fork" {
				by := s.at(fmt.Sprintf("pid %d", p.pid))
				at.traced, at.fromStart = at.traced || by.traced, at.fromStart || by.fromStart
			}
			r.traced += number(at.traced)
			r.fromStart += number(at.fromStart)
			r.queries += number(at.query)
		}
	}
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A catcher is a culprit daemon that the benchmark can stop, and whose log it reads.
type catcher struct {
	cmd      *exec.Cmd
	bin      string
	evidence string
	log      string // file
	gate     string // capture.gate; "": auto
	stopped  bool
}

// startCatcher starts a daemon that holds programs in a way, or by default.
func startCatcher(b *testing.B, n *testkit.Net, gate string) *catcher {
	b.Helper()
	dir := b.TempDir()
	d := &catcher{bin: binary(b), gate: gate, evidence: filepath.Join(dir, "evidence"), log: filepath.Join(dir, "log")}
	log, err := os.Create(d.log)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cfg := write(b, "config.yaml", catchConfig+"  gate: "+cmp.Or(gate, "auto")+"\nevidence: {dir: "+d.evidence+"}\nlog: {level: debug}\n")
	ctx, cancel := context.WithTimeout(context.Background(), catchLimit)
	d.cmd = exec.CommandContext(ctx, d.bin, "run", "-c", cfg)
	d.cmd.Stderr = log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := n.Start(d.cmd); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		d.stop(b)
		cancel()
	})
	d.says(b, "msg=ready")
	return d
}

func (d *catcher) pid() int { return d.cmd.Process.Pid }

// says waits until the log has one of the texts.
func (d *catcher) says(b *testing.B, texts ...string) {
	b.Helper()
	await(b, strings.Join(texts, " or "), time.Millisecond, func() bool {
		log, err := os.ReadFile(d.log)
		if err != nil {
			b.Fatal(err)
		}
		for _, text := range texts {
			if bytes.Contains(log, []byte(text)) {
				return true
			}
		}
		if strings.HasPrefix(field(fmt.Sprintf("/proc/%d/status", d.pid()), "State"), "Z") {
			b.Fatalf("culprit has ended:\n%s", log)
		}
		return false
	})
}

// firstHit starts the capture of the offenders' user, and waits for the gate.
func (d *catcher) firstHit(b *testing.B, n *testkit.Net, p catchPaths) {
	b.Helper()
	cmd := asUser(offenderUID, p.offender, "-n", "first.badzone.test")
	cmd.Stderr = os.Stderr
	if err := n.Start(cmd); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	if d.gate == "off" {
		d.says(b, "capture started")
		return
	}
	d.says(b, "the gate is in place", "the gate does not cover", "no gate")
}

// stop ends the daemon in good order, once.
func (d *catcher) stop(b *testing.B) {
	b.Helper()
	if d.stopped {
		return
	}
	d.stopped = true
	d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		log, _ := os.ReadFile(d.log)
		b.Errorf("culprit run: %v\n%s", err, log[max(0, len(log)-2000):])
	}
	log, _ := os.ReadFile(d.log)
	for line := range strings.Lines(string(log)) {
		// It comes back by itself, and what it missed is in the figures.
		if strings.Contains(line, "the gate failed") {
			b.Log(line)
		}
	}
}

// list reads documents that a subcommand prints.
func list[T any](b *testing.B, d *catcher, what string) (all []T) {
	b.Helper()
	cmd := exec.Command(d.bin, what, "--json", "--evidence", d.evidence)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("culprit %s: %v", what, err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var doc T
		err := dec.Decode(&doc)
		if err == io.EOF {
			return all
		}
		if err != nil {
			b.Fatalf("culprit %s: %v", what, err)
		}
		all = append(all, doc)
	}
}

func (d *catcher) traces(b *testing.B) []event.Trace { return list[event.Trace](b, d, "traces") }

// logMissed says why programs were not traced, if any were not.
func (d *catcher) logMissed(b *testing.B, r result) {
	b.Helper()
	if r.queries == r.started {
		return
	}
	for _, c := range list[event.Capture](b, d, "captures") {
		b.Logf("missed: %v; unseen %d, overruns %d, gate failures %d", c.Culprit.Missed, c.Culprit.Unseen, c.Culprit.Overruns, c.Culprit.GateFailures)
	}
}
