package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
)

// A daemon is culprit run.
type daemon struct {
	*process
	host     *host
	config   string // path
	evidence string // directory
	mark     string // in the environment of the daemon and of all that stems from it
}

// badzone is the rule of tests that are not about rules.
const badzone = "rules: [{name: badzone, string: BADZONE}]\n"

// configure writes a configuration for an evidence directory of its own. What the
// text leaves out is the rule badzone and a log for the test to read.
func (h *host) configure(text string) (config, evidence string) {
	h.t.Helper()
	h.started++
	name := fmt.Sprint("culprit", h.started)
	evidence = filepath.Join(h.t.TempDir(), name)
	return h.configureIn(evidence, text), evidence
}

func (h *host) configureIn(evidence, text string) (config string) {
	h.t.Helper()
	if !strings.Contains(text, "rules:") {
		text += "\n" + badzone
	}
	if !strings.Contains(text, "log:") {
		text += "\nlog: {format: json, level: debug}\n"
	}
	if !strings.Contains(text, "evidence:") {
		text += fmt.Sprintf("\nevidence: {dir: %s}\n", evidence)
	}
	return h.write(fmt.Sprintf("config%d.yaml", h.started), text)
}

// hunt starts a daemon and waits until it is ready.
func (h *host) hunt(text string) *daemon {
	h.t.Helper()
	config, evidence := h.configure(text)
	return h.huntWith(config, evidence)
}

func (h *host) huntWith(config, evidence string, env ...string) *daemon {
	h.t.Helper()
	d := h.launch(config, evidence, env...)
	d.awaitLog("ready")
	return d
}

// launch starts a daemon.
func (h *host) launch(config, evidence string, env ...string) *daemon {
	h.t.Helper()
	cmd := exec.Command(programs.culprit, "run", "-c", config)
	mark := fmt.Sprintf("CULPRIT_TEST_DAEMON=%d-%d", os.Getpid(), newUID())
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), mark}, env...)
	d := &daemon{process: h.startCommand(0, cmd), host: h, config: config, evidence: evidence, mark: mark}
	h.t.Cleanup(func() {
		if !d.buried.Load() {
			for pid := range d.left() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if h.t.Failed() {
			h.t.Logf("log of the daemon %d:\n%s", d.pid, d.output)
		}
	})
	return d
}

// awaitLog waits until the daemon has logged a message.
func (d *daemon) awaitLog(message string) {
	d.t.Helper()
	eventually(d.t, fmt.Sprintf("the daemon logs %q", message), func() error {
		if d.logged(message) {
			return nil
		}
		if d.ended() {
			d.t.Fatalf("the daemon ended with %d before it logged %q\n%s", code(d.cmd), message, d.output)
		}
		return errors.New("it has not")
	})
}

// logged tells whether the log has a message that begins so.
func (d *daemon) logged(message string) bool {
	log := d.output.String()
	return strings.Contains(log, `"message":"`+message) ||
		strings.Contains(log, "msg="+message) || strings.Contains(log, `msg="`+message)
}

// stop ends the daemon as systemd would, and checks that it goes in good order.
func (d *daemon) stop() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	if got := d.wait(); got != 0 {
		d.t.Errorf("the daemon ended with %d after SIGTERM, want 0", got)
	}
	if !d.logged("stopped") {
		d.t.Errorf("the daemon did not log that it stopped")
	}
	if left := d.left(); len(left) > 0 {
		d.t.Errorf("these processes outlived the daemon: %v", left)
		return
	}
	d.buried.Store(true)
}

// left lists what stems from the daemon and lives, the daemon included, by PID.
func (d *daemon) left() map[int]string {
	left := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+d.mark+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if state, _ := status(pid); state != 0 && state != 'Z' {
			left[pid] = fmt.Sprintf("%s(%c)", bytes.ReplaceAll(args, []byte{0}, []byte{' '}), state)
		}
	}
	return left
}

// straces lists the daemon's children, apart from the gate.
func (d *daemon) straces() (pids []int) {
	for _, pid := range children(d.pid) {
		if !isGate(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gate finds the daemon's gate; 0 if there is none.
func (d *daemon) gate() int {
	for _, pid := range children(d.pid) {
		if isGate(pid) {
			return pid
		}
	}
	return 0
}

func isGate(pid int) bool {
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.HasPrefix(string(args), "culprit\x00gate\x00")
}

func children(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids
}

// list runs one of the list commands on the daemon's evidence.
func list[T any](d *daemon, what string, flags ...string) []T {
	d.t.Helper()
	r := d.host.culprit(append([]string{what, "--json", "--evidence", d.evidence}, flags...)...)
	var all []T
	for line := range strings.Lines(r.must(d.t)) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			d.t.Fatalf("culprit %s --json printed what is no JSON: %v\n%s", what, err, line)
		}
		all = append(all, v)
	}
	return all
}

func (d *daemon) hits(flags ...string) []event.Hit {
	d.t.Helper()
	return list[event.Hit](d, "hits", flags...)
}

func (d *daemon) captures(flags ...string) []event.Capture {
	d.t.Helper()
	return list[event.Capture](d, "captures", flags...)
}

func (d *daemon) traces(flags ...string) []event.Trace {
	d.t.Helper()
	return list[event.Trace](d, "traces", flags...)
}

// hit waits for the first hit that asks for a name, and returns it.
func (d *daemon) hit(name string) event.Hit {
	d.t.Helper()
	var found event.Hit
	eventually(d.t, "a hit asks for "+name, func() error {
		for _, h := range d.hits() {
			if h.DNS != nil && h.DNS.Question.Name == name {
				found = h
				return nil
			}
		}
		return errors.New("there is none")
	})
	return found
}

// capture waits until the only capture of a user is as ok wants it.
func (d *daemon) capture(uid uint32, what string, ok func(event.Capture) bool) event.Capture {
	d.t.Helper()
	var found event.Capture
	eventually(d.t, "the capture "+what, func() error {
		all := d.captures("--user", fmt.Sprint(uid))
		if len(all) != 1 {
			return fmt.Errorf("there are %d", len(all))
		}
		if found = all[0]; !ok(found) {
			return fmt.Errorf("it is %+v", found.Culprit)
		}
		return nil
	})
	return found
}

// trace waits for the only trace of a process to be as ok wants it; nil: to be there.
func (d *daemon) trace(pid int, what string, ok func(event.Trace) bool) event.Trace {
	d.t.Helper()
	var found event.Trace
	eventually(d.t, fmt.Sprintf("the trace of process %d %s", pid, what), func() error {
		var all []event.Trace
		for _, t := range d.traces() {
			if t.Process.PID == pid {
				all = append(all, t)
			}
		}
		if len(all) != 1 {
			return fmt.Errorf("there are %d", len(all))
		}
		if found = all[0]; ok != nil && !ok(found) {
			return fmt.Errorf("it is %+v", found.Culprit)
		}
		return nil
	})
	return found
}

func ended(t event.Trace) bool { return t.Culprit.State == event.StateEnded }

// tracedPIDs are the processes that have a trace, each once.
func (d *daemon) tracedPIDs() map[int]bool {
	d.t.Helper()
	pids := map[int]bool{}
	for _, t := range d.traces() {
		pids[t.Process.PID] = true
	}
	return pids
}

// A sender is a process that lives on and sends packets when it is told to, all
// from one UDP socket that it keeps open.
type sender struct {
	*process
	replies int
}

// senderScript does what it is told on standard input, line by line, and answers
// each line with one.
const senderScript = `
import os, shlex, socket, struct, subprocess, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
def query(name):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"
print("port", s.getsockname()[1], flush=True)
for line in sys.stdin:
    what, *args = shlex.split(line)
    if what == "ask":
        for _ in range(int(args[1])):
            s.send(query(args[0]))
        print("asked", flush=True)
    elif what == "raw":
        s.send(bytes.fromhex(args[0]))
        print("sent", flush=True)
    elif what == "spawn":
        print("spawned", subprocess.Popen(args, stdin=subprocess.DEVNULL).pid, flush=True)
    elif what == "exec":
        os.execvp(args[0], args)
    elif what == "chat":
        while True: os.getppid()
`

func (h *host) sender(uid uint32) *sender {
	h.t.Helper()
	s := &sender{process: h.start(uid, "python3", "-I", "-S", "-c", senderScript)}
	s.reply()
	return s
}

// reply waits for the answer to the last line, and returns its last word.
func (s *sender) reply() string {
	s.t.Helper()
	s.replies++
	var last string
	eventually(s.t, "the sender answers", func() error {
		lines := strings.SplitAfter(s.output.String(), "\n")
		if len(lines) <= s.replies {
			return fmt.Errorf("it said %q", lines)
		}
		words := strings.Fields(lines[s.replies-1])
		last = words[len(words)-1]
		return nil
	})
	return last
}

// ask sends a query.
func (s *sender) ask(name string) { s.askTimes(name, 1) }

func (s *sender) askTimes(name string, n int) {
	s.t.Helper()
	s.say(fmt.Sprintf("ask %s %d", name, n))
	s.reply()
}

// raw sends any payload.
func (s *sender) raw(payload string) {
	s.t.Helper()
	s.say(fmt.Sprintf("raw %x", payload))
	s.reply()
}

// spawn starts a child and returns its PID.
func (s *sender) spawn(command string) int {
	s.t.Helper()
	s.say("spawn " + command)
	pid, err := strconv.Atoi(s.reply())
	if err != nil {
		s.t.Fatalf("the sender did not tell the PID: %v\n%s", err, s.output)
	}
	return pid
}

// idle starts a process that does nothing until its standard input ends.
func (h *host) idle(uid uint32) *process {
	h.t.Helper()
	return h.start(uid, "cat")
}

// readFile reads a trace file, which may be compressed by now.
func readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return exec.Command("zstd", "-dcq", path+".zst").Output()
	}
	return text, err
}

// readTrace reads the comment lines of a trace file: those before the trace, by
// their keys, and those behind it. Keys that come twice keep the first.
func readTrace(t testing.TB, path string) (head, foot map[string]string, body string) {
	t.Helper()
	text, err := readFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, foot = map[string]string{}, map[string]string{}
	into := head
	for line := range strings.Lines(string(text)) {
		rest, comment := strings.CutPrefix(line, "# ")
		if !comment {
			into = foot
			body += line
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSuffix(rest, "\n"), ": ")
		if !ok {
			t.Errorf("%s: the comment line %q is not \"# key: value\"", path, line)
		}
		if _, twice := into[key]; !twice {
			into[key] = value
		}
	}
	return head, foot, body
}

// longWindow is a configuration whose captures end only with the daemon.
const longWindow = "capture: {levels: [{hits: 1, processes: 200, window: 10m, strings: 512}], concurrent: 64}\n"
