package bench

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"culprit/internal/testkit"
)

// A daemon is a running `culprit run`.
type daemon struct {
	pid      int
	evidence string // directory
	db       *sql.DB
	stop     func() // returns when it has ended; not needed, the benchmark's end calls it
}

// binary is the culprit that CULPRIT_BIN names, or one built for the benchmark.
func binary(b *testing.B) string {
	b.Helper()
	if path := os.Getenv("CULPRIT_BIN"); path != "" {
		return path
	}
	path := filepath.Join(b.TempDir(), "culprit")
	build := exec.Command("go", "build", "-o", path, "culprit/cmd/culprit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build culprit: %v\n%s", err, out)
	}
	return path
}

// start runs the daemon in the namespace until the benchmark ends, and returns
// once it is ready. Its configuration is the text, with evidence.dir added.
func start(b *testing.B, n *testkit.Net, text string) *daemon {
	b.Helper()
	d := &daemon{evidence: filepath.Join(b.TempDir(), "evidence")}
	cfg := write(b, "config.yaml", text+"evidence: {dir: "+d.evidence+"}\n")
	cmd := exec.Command(binary(b), "run", "-c", cfg)
	// Should the benchmark be killed, nothing stays. The thread that starts it
	// lasts as long as the namespace.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		b.Fatal(err)
	}
	d.pid = cmd.Process.Pid
	ready, said := make(chan bool, 1), new(bytes.Buffer)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(io.TeeReader(stderr, said)); lines.Scan(); {
			if strings.Contains(lines.Text(), "msg=ready") {
				ready <- true
			}
		}
		close(ready)
	}()
	d.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			b.Errorf("culprit run: %v", err)
		}
		if b.Failed() {
			const last = 8192
			b.Logf("culprit run said at last:\n%s", said.Bytes()[max(0, said.Len()-last):])
		}
	})
	b.Cleanup(d.stop)
	if !<-ready {
		b.Fatalf("culprit run did not get ready:\n%s", said)
	}
	catalogue := url.URL{Scheme: "file", Path: filepath.Join(d.evidence, "catalogue.db"), RawQuery: "mode=ro&_pragma=busy_timeout(5000)"}
	if d.db, err = sql.Open("sqlite", catalogue.String()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.db.Close() })
	return d
}

// count asks the catalogue for one number.
func (d *daemon) count(b *testing.B, query string) (n int) {
	b.Helper()
	if err := d.db.QueryRow(query).Scan(&n); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	return n
}

// recorded counts the hits in the catalogue and, from the losses, those that are
// known to be missing.
func (d *daemon) recorded(b *testing.B) (hits, lost int) {
	b.Helper()
	// Others count something else: overruns, or hits that were not compared with traces.
	return d.count(b, "SELECT count(*) FROM hits"),
		d.count(b, "SELECT coalesce(sum(count), 0) FROM losses WHERE code IN ('kernel', 'queue', 'rate', 'unrecorded')")
}

// settle waits until hits and losses make up what was sent, and returns how many
// that is in the end: what the kernel dropped last shows only when one more packet
// gets through, so now and then it sends one. A benchmark fails if no more are recorded and
// the numbers do not agree: a packet that is neither hit nor loss must not be.
func (d *daemon) settle(b *testing.B, o *offender, sent int) int {
	b.Helper()
	for before, idle := 0, 0; ; idle++ {
		for range 30 {
			if hits, lost := d.recorded(b); hits+lost == sent {
				return sent
			}
			time.Sleep(50 * time.Millisecond)
		}
		hits, lost := d.recorded(b)
		if hits+lost > before+1 { // not only what was sent here
			idle = 0
		}
		before = hits + lost
		if idle == 60 { // a transaction of tens of thousands takes a busy machine many seconds
			b.Errorf("%d packets were sent, %d are hits and %d counted as lost: %d are unaccounted for", sent, hits, lost, sent-hits-lost)
			return sent
		}
		o.send(b, 1, 0, oneSocket)
		sent++
	}
}

// logLosses says what was lost, if anything was.
func (d *daemon) logLosses(b *testing.B) {
	b.Helper()
	rows, err := d.db.Query("SELECT code, sum(count) FROM losses GROUP BY code")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var what string
		var count int
		if err := rows.Scan(&what, &count); err != nil {
			b.Fatal(err)
		}
		b.Logf("lost %d: %s", count, what)
	}
}

// tick is the unit of CPU times in /proc/PID/stat (USER_HZ, 100 on Linux).
const tick = 10 * time.Millisecond

// cpu is the CPU time, of user and kernel, that the process has used.
func (d *daemon) cpu(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.pid))
	if err != nil {
		b.Fatal(err)
	}
	// Fields are counted from behind the command's name (man 5 proc): 14 and 15.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[14-3])
	kernel, _ := strconv.Atoi(fields[15-3])
	return time.Duration(user+kernel) * tick
}

// wakeups counts how often the threads of the process and of its helpers went to sleep.
func (d *daemon) wakeups(b *testing.B) (n int) {
	b.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.pid))
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.pid))
	for _, path := range children {
		text, _ := os.ReadFile(path)
		for child := range strings.FieldsSeq(string(text)) {
			more, _ := filepath.Glob("/proc/" + child + "/task/*/status")
			tasks = append(tasks, more...)
		}
	}
	for _, path := range tasks {
		v, _ := strconv.Atoi(field(path, "voluntary_ctxt_switches"))
		n += v
	}
	return n
}

// memory is the size in megabytes that key names: VmRSS is now, VmHWM the most
// it ever was.
func (d *daemon) memory(b *testing.B, key string) float64 {
	b.Helper()
	kb, err := strconv.ParseFloat(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", d.pid), key), " kB"), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}
