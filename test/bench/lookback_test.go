package bench

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/proc"
	"culprit/internal/testkit"
	"culprit/sensor/lookback"
)

//go:embed lookback_load.c
var loadSource []byte

// lookbackLoad builds the load where every user can run it.
func lookbackLoad(b *testing.B) string {
	b.Helper()
	testkit.Root(b)
	dir, err := os.MkdirTemp("", "culprit-lookback")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	source, program := filepath.Join(dir, "load.c"), filepath.Join(dir, "load")
	os.Chmod(dir, 0o777)
	if err := os.WriteFile(source, loadSource, 0o644); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("cc", "-O2", "-o", program, source).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return program
}

// runAs runs a program as a user, and returns its output and how long it took.
func runAs(b *testing.B, uid int, args ...string) (string, time.Duration) {
	b.Helper()
	cmd := asUser(uid, args[0], args[1:]...)
	cmd.Dir = "/tmp"
	begin := time.Now()
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v", args, err)
	}
	return string(out), time.Since(begin)
}

func openRecorder(b *testing.B) *lookback.Recorder { return openSmall(b, 32<<20) }

// openSmall opens a recorder with that many bytes of memory.
func openSmall(b *testing.B, memory int) *lookback.Recorder {
	b.Helper()
	r, err := lookback.Open(lookback.Config{Users: []uint32{uint32(offenderUID)}, Strings: 256, Memory: memory})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkLookBackCalls measures what the look-back adds to a system call of a user who is
// recorded and of another one, all in one run. getppid is a call that is not recorded, and so is a
// write that does not go to a socket.
func BenchmarkLookBackCalls(b *testing.B) {
	load := lookbackLoad(b)
	best := map[string]float64{}
	measure := func(state string, uid int, args ...string) {
		out, _ := runAs(b, uid, args...)
		for line := range strings.Lines(out) {
			var call string
			var ns float64
			if _, err := fmt.Sscan(line, &call, &ns); err != nil {
				b.Fatal(err)
			}
			if key := state + "/" + call; best[key] == 0 || ns < best[key] {
				best[key] = ns
			}
		}
	}
	for b.Loop() {
		for range 5 {
			measure("none", offenderUID, load)
			r := openRecorder(b)
			measure("recorded", offenderUID, load)
			measure("other", offenderUID+1, load)
			r.Close()
		}
	}
	for key, ns := range best {
		state, call, _ := strings.Cut(key, "/")
		if state == "none" {
			b.ReportMetric(ns, "ns/"+call)
			continue
		}
		b.ReportMetric(ns-best["none/"+call], "ns-more-"+state+"/"+call)
	}
	noTimePerRun(b)
}

// BenchmarkLookBackRead measures how long it takes to read the story of a program out of a full ring.
func BenchmarkLookBackRead(b *testing.B) {
	load := lookbackLoad(b)
	r := openRecorder(b)
	defer r.Close()
	for range 4 { // fills it
		runAs(b, offenderUID, load)
	}
	cmd := exec.Command("/bin/sh", "-c", "read x; cat /etc/hostname >/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(offenderUID), Gid: uint32(offenderUID)}}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	st, err := proc.Default.Stat(cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	in.Close()
	cmd.Wait()
	var took []time.Duration
	calls := 0
	for b.Loop() {
		begin := time.Now()
		s := r.Read(lookback.Sender{ID: st.ID})
		took, calls = append(took, time.Since(begin)), len(s.Events)
	}
	if calls == 0 {
		b.Fatal("the story is empty")
	}
	b.ReportMetric(float64(calls), "calls")
	b.ReportMetric(float64(32<<20)/float64(r.Holds()), "bytes/call")
	reportMS(b, "", took)
	noTimePerRun(b)
}
