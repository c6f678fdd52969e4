// Package test hunts real programs on the real kernel with the real culprit: each
// test has network and mount namespaces of its own, with a resolver in them.
package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// programs are what the tests run, in a directory that everybody can read.
var programs struct{ dir, culprit, offenderC, offenderGo string }

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test skips itself
	}
	// What is in root's own directories other users cannot run.
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH"))
	os.Unsetenv("NOTIFY_SOCKET")
	if err := provide(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(programs.dir)
	return m.Run()
}

// provide copies what make has built, or builds it.
func provide() (err error) {
	p := &programs
	if p.dir, err = os.MkdirTemp("", "culprit-test-"); err != nil {
		return err
	}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return err
	}
	p.culprit = filepath.Join(p.dir, "culprit")
	p.offenderC = filepath.Join(p.dir, "offender-c")
	p.offenderGo = filepath.Join(p.dir, "offender-go")
	golang := os.Getenv("GO")
	if golang == "" {
		golang = "go"
	}
	built := os.Getenv("CULPRIT_OFFENDERS")
	for _, one := range []struct {
		from, to string
		build    []string
	}{
		{os.Getenv("CULPRIT_BIN"), p.culprit, []string{golang, "build", "-buildvcs=false", "-o", p.culprit, "../cmd/culprit"}},
		{in(built, "offender-go"), p.offenderGo, []string{golang, "build", "-buildvcs=false", "-o", p.offenderGo, "./offender"}},
		{in(built, "offender-c"), p.offenderC, []string{"cc", "-O2", "-static", "-o", p.offenderC, "offender/offender.c"}},
	} {
		cmd := exec.Command("install", "-m", "755", one.from, one.to)
		if one.from == "" {
			cmd = exec.Command(one.build[0], one.build[1:]...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return nil
}

func in(dir, file string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, file)
}

// UIDs are the machine's, namespaces or not, and a capture is of all processes of
// one: so no two tests, and no two runs at once, may share any.
var lastUID atomic.Uint32

func newUID() uint32 {
	return 64_000_000 + uint32(os.Getpid()%20_000)*10_000 + lastUID.Add(1)
}

// A host is the machine of one test: namespaces, a resolver for everything below
// test., and a directory that everybody can read.
type host struct {
	*testkit.Net
	t       testing.TB
	backend string
	dir     string
	started int // daemons
}

// eachBackend runs f, in parallel, on a host with each flavour of iptables.
func eachBackend(t *testing.T, f func(t *testing.T, h *host)) {
	t.Parallel()
	for _, b := range testkit.Backends {
		t.Run(b, func(t *testing.T) {
			t.Parallel()
			f(t, newHost(t, b))
		})
	}
}

// newHost makes a host; the backend "" leaves iptables as the machine has it.
func newHost(t *testing.T, backend string) *host {
	t.Helper()
	h := &host{Net: testkit.NewNet(t), t: t, backend: backend}
	if backend != "" {
		h.UseBackend(t, backend)
	}
	// To look at a table of iptables-legacy creates it, for good.
	for _, table := range []string{"raw", "mangle", "filter"} {
		h.Must(t, "iptables", "-t", table, "-S")
		h.Must(t, "ip6tables", "-t", table, "-S")
	}
	var err error
	if h.dir, err = os.MkdirTemp(programs.dir, "host-"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.resolver("127.0.0.1", "")
	dnsmasq := h.start(0, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root",
		"--no-resolv", "--no-hosts", "--cache-size=0", "--bind-interfaces", "--listen-address=127.0.0.1,::1",
		"--address=/test/192.0.2.1", "--address=/test/2001:db8::1")
	for _, args := range [][]string{{}, {"-t"}, {"-s", "::1"}, {"-s", "::1", "-t"}} {
		eventually(t, "dnsmasq answers", func() error {
			if dnsmasq.ended() {
				t.Fatalf("dnsmasq ended: %s", dnsmasq.output)
			}
			_, err := h.Run(programs.offenderC, append([]string{"-w", "-n", "ready.test"}, args...)...)
			return err
		})
	}
	return h
}

// resolver sets who resolves names, and how.
func (h *host) resolver(server, options string) {
	h.t.Helper()
	h.Bind(h.t, "/etc/resolv.conf", "nameserver "+server+"\nsearch .\n"+options+"\n")
}

var counters = regexp.MustCompile(`\[\d+:\d+\]|counter packets \d+ bytes \d+`)

// firewall is all of the firewall as text, without comments and counters.
func (h *host) firewall() string {
	h.t.Helper()
	all := h.Must(h.t, "iptables-save") + h.Must(h.t, "ip6tables-save")
	var b strings.Builder
	for line := range strings.Lines(counters.ReplaceAllString(all, "[]")) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// unchanged fails the test if the firewall is not as it was.
func (h *host) unchanged(before, when string) {
	h.t.Helper()
	if after := h.firewall(); after != before {
		h.t.Errorf("%s the firewall should be as before.\nbefore:\n%s\nnow:\n%s", when, before, after)
	}
}

// write makes a file that everybody can read.
func (h *host) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	// A child that is forked meanwhile would hold the file open for writing, and
	// the kernel would refuse to run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// A result is how a command has ended.
type result struct {
	code        int
	out, errors string
}

// culprit runs culprit on the host.
func (h *host) culprit(args ...string) result {
	h.t.Helper()
	return h.command(exec.Command(programs.culprit, args...))
}

// command runs a command on the host and returns how it ended, well or not.
func (h *host) command(cmd *exec.Cmd) result {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// No command waits for anything: after this long it hangs.
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := h.Start(cmd); err != nil {
		h.t.Fatalf("%v: %v", cmd.Args, err)
	}
	err := cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		h.t.Fatalf("%v: %v", cmd.Args, err)
	}
	noRaces(h.t, cmd, errs.String())
	return result{code(cmd), out.String(), errs.String()}
}

// must fails the test if the command did not end with 0.
func (r result) must(t testing.TB) string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit status %d, want 0\n%s%s", r.code, r.out, r.errors)
	}
	return r.out
}

// fails fails the test if the command did not end as it should, with all of the
// given texts on its standard error.
func (r result) fails(t testing.TB, code int, says ...string) {
	t.Helper()
	var wrong []string
	if r.code != code {
		wrong = append(wrong, fmt.Sprintf("exit status %d, want %d", r.code, code))
	}
	for _, s := range says {
		if !strings.Contains(r.errors, s) {
			wrong = append(wrong, fmt.Sprintf("the message does not say %q", s))
		}
	}
	if wrong != nil {
		t.Errorf("%s; it said:\n%s%s", strings.Join(wrong, "; "), r.out, r.errors)
	}
}

// code is the exit status as shells count it, 128+n for signal n.
func code(cmd *exec.Cmd) int {
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// A process is a program that runs while the test goes on.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	pid    int
	stdin  io.WriteCloser
	output *buffer
	done   chan struct{}
	buried atomic.Bool // nothing of it lives any more: its PID may be another's
}

// start starts a program as a user. It dies with the test at the latest.
func (h *host) start(uid uint32, name string, args ...string) *process {
	h.t.Helper()
	return h.startCommand(uid, exec.Command(name, args...))
}

func (h *host) startCommand(uid uint32, cmd *exec.Cmd) *process {
	h.t.Helper()
	p := &process{t: h.t, cmd: cmd, output: new(buffer), done: make(chan struct{})}
	cmd.Dir = "/"
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	if options, set := os.LookupEnv("GORACE"); set {
		cmd.Env = append(cmd.Env, "GORACE="+options)
	}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.WaitDelay = time.Second // children may hold the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true,
		Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: uid == 0},
	}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Start(cmd); err != nil {
		h.t.Fatalf("start %v: %v", cmd.Args, err)
	}
	p.pid = cmd.Process.Pid
	go func() {
		defer close(p.done)
		cmd.Wait()
	}()
	h.t.Cleanup(func() {
		if !p.buried.Load() {
			syscall.Kill(-p.pid, syscall.SIGKILL) // its children too
		}
		<-p.done
		noRaces(h.t, cmd, p.output.String())
	})
	return p
}

// noRaces fails the test if a culprit that was built with the race detector (make
// race) found one. Its gate writes to the standard error of the daemon, too.
func noRaces(t testing.TB, cmd *exec.Cmd, output string) {
	t.Helper()
	if strings.Contains(output, "WARNING: DATA RACE") {
		t.Errorf("%v has a data race:\n%s", cmd.Args, output)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait waits for the end of the process and returns its exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%v has not ended after %v\n%s", p.cmd.Args, patience, p.output)
	}
	return code(p.cmd)
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(p.pid, s); err != nil {
		p.t.Fatalf("send %v to %v: %v", s, p.cmd.Args, err)
	}
}

// say writes a line to the process.
func (p *process) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatalf("write to %v: %v\n%s", p.cmd.Args, err, p.output)
	}
}

// status reads a process's state (R, S, T, t, Z, …) and tracer from /proc; the
// state 0 is gone.
func status(pid int) (state byte, tracer int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "State":
			state = value[0]
		case "TracerPid":
			tracer, _ = strconv.Atoi(value)
		}
	}
	return state, tracer
}

// traced waits until somebody traces the processes.
func traced(t testing.TB, ps ...*process) {
	t.Helper()
	for _, p := range ps {
		eventually(t, fmt.Sprintf("process %d %v is traced", p.pid, p.cmd.Args), func() error {
			if _, tracer := status(p.pid); tracer == 0 {
				return errors.New("nobody traces it")
			}
			return nil
		})
	}
}

// free waits until the processes go on untraced.
func free(t testing.TB, ps ...*process) {
	t.Helper()
	for _, p := range ps {
		eventually(t, fmt.Sprintf("process %d %v goes on untraced", p.pid, p.cmd.Args), func() error { return isFree(p.pid) })
	}
}

func isFree(pid int) error {
	switch state, tracer := status(pid); {
	case state == 0 || state == 'Z':
		return errors.New("it is dead")
	case tracer != 0:
		return fmt.Errorf("process %d traces it", tracer)
	case state == 'T' || state == 't':
		return errors.New("it is stopped")
	}
	return nil
}

// neverTraced looks at processes again and again until the function it returns is
// called, which fails the test if one of them was ever traced.
func neverTraced(t testing.TB, pids ...int) (check func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	caught := map[int]int{}
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, pid := range pids {
				if _, tracer := status(pid); tracer != 0 {
					caught[pid] = tracer
				}
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	end := sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(end)
	return func() {
		t.Helper()
		end()
		for pid, tracer := range caught {
			t.Errorf("process %d must never be traced, but process %d did", pid, tracer)
		}
	}
}

// patience is how long something may take that should be there at once: machines
// that test are busy ones.
const patience = 30 * time.Second

// eventually waits until ok returns nil.
func eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	within(t, patience, what, ok)
}

func within(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// buffer is a [bytes.Buffer] for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
