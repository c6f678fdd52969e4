package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A load is a program of a user, with something before its command line that watches it, and how long it
// takes for its work.
type load func(b *testing.B, watch []string) time.Duration

// command is a load that does its work and ends.
func command(script string) load {
	return func(b *testing.B, watch []string) time.Duration {
		_, took := runAs(b, offenderUID, append(watch, "/bin/sh", "-c", script)...)
		return took
	}
}

// server is a load that answers: its work is what ask asks for, once ready says that it can. Both are
// given its port.
func server(port int, ready func(port int) bool, ask func(b *testing.B, port int), args ...string) load {
	return func(b *testing.B, watch []string) time.Duration {
		b.Helper()
		args := append(watch, args...)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = "/tmp"
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(offenderUID), Gid: uint32(offenderUID)}, Setpgid: true, Pdeathsig: syscall.SIGKILL,
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
		}()
		await(b, args[0], 5*time.Millisecond, func() bool { return ready(port) })
		begin := time.Now()
		ask(b, port)
		return time.Since(begin)
	}
}

// pages is how many pages a PHP server is asked for, and phpPage what each does: it reads two files.
const (
	pages   = 500
	phpPage = `<?php echo strlen(file_get_contents('/etc/services')), file_get_contents('/etc/hostname');`
)

func page(port int) error {
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// loads returns those for which there is a program here.
func loads(b *testing.B) map[string]load {
	b.Helper()
	program := lookbackLoad(b)
	php := filepath.Join(filepath.Dir(program), "page.php")
	if err := os.WriteFile(php, []byte(phpPage), 0o644); err != nil {
		b.Fatal(err)
	}
	all := map[string]load{
		"shell":    command("i=0; while [ $i -lt 50 ]; do i=$((i+1)); cat /etc/hostname > /dev/null; done"),
		"compiler": command("cc -O2 -o /dev/null " + program + ".c"),
		"php": server(18080, func(port int) bool { return page(port) == nil }, func(b *testing.B, port int) {
			for range pages {
				if err := page(port); err != nil {
					b.Fatal(err)
				}
			}
		}, "php", "-S", "127.0.0.1:18080", php),
		"redis": server(16379, func(port int) bool {
			return exec.Command("redis-cli", "-p", fmt.Sprint(port), "ping").Run() == nil
		}, func(b *testing.B, port int) {
			if out, err := exec.Command("redis-benchmark", "-p", fmt.Sprint(port), "-q", "-n", "20000", "-c", "8", "-t", "get,set").CombinedOutput(); err != nil {
				b.Fatalf("redis-benchmark: %v: %s", err, out)
			}
		}, "redis-server", "--port", "16379", "--save", "", "--appendonly", "no", "--dir", "/tmp"),
	}
	for name, needs := range map[string][]string{"compiler": {"cc"}, "php": {"php"}, "redis": {"redis-server", "redis-cli", "redis-benchmark"}} {
		for _, program := range needs {
			if _, err := exec.LookPath(program); err != nil {
				b.Logf("no load %s: %v", name, err)
				delete(all, name)
			}
		}
	}
	return all
}

// counting runs bpftrace, which counts the system calls of the user by their number.
func counting(b *testing.B) (stop func()) {
	b.Helper()
	cmd := exec.Command("bpftrace", "-e", fmt.Sprintf("tracepoint:raw_syscalls:sys_enter /uid == %d/ { @[args->id] = count(); } BEGIN { printf(\"ready\\n\"); }", offenderUID))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	said, buf := "", make([]byte, 256)
	for !strings.Contains(said, "ready") {
		n, err := out.Read(buf)
		if err != nil {
			b.Fatalf("bpftrace: %v: %s", err, said)
		}
		said += string(buf[:n])
	}
	go io.Copy(io.Discard, out)
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// BenchmarkLookBackLoad compares how long programs take with nothing, with the look-back, under
// strace -f, and while bpftrace counts their calls, turn by turn. The best turn of each counts, as others use
// the machine, too. What is not installed is left out.
func BenchmarkLookBackLoad(b *testing.B) {
	const turns, slow = 10, 3
	_, noTrace := exec.LookPath("bpftrace")
	if noTrace != nil {
		b.Logf("not compared with bpftrace: %v", noTrace)
	}
	took := map[string][]time.Duration{}
	all := loads(b)
	for b.Loop() {
		for name, load := range all {
			turn := func(state string, watch ...string) {
				took[name+"/"+state] = append(took[name+"/"+state], load(b, watch))
			}
			for i := range turns {
				turn("none")
				r := openRecorder(b)
				turn("recorded")
				r.Close()
				if i < slow {
					turn("strace", "strace", "-f", "-o", "/dev/null")
				}
				if i < slow && noTrace == nil {
					stop := counting(b)
					turn("bpftrace")
					stop()
				}
			}
		}
	}
	for key, times := range took {
		name, state, _ := strings.Cut(key, "/")
		if state != "none" {
			b.ReportMetric(float64(slices.Min(times))/float64(slices.Min(took[name+"/none"])), "times-"+state+"/"+name)
		}
	}
	noTimePerRun(b)
}

// BenchmarkLookBackHolds measures how many seconds of a busy PHP server 32 MiB hold: it asks four times at
// once until 4 MiB are full.
func BenchmarkLookBackHolds(b *testing.B) {
	load := loads(b)["php"]
	if load == nil {
		b.Skip("there is no php")
	}
	const memory, whole = 4 << 20, 32 << 20
	r := openSmall(b, memory)
	defer r.Close()
	var took time.Duration
	turns := 0
	before := r.Recorded()
	for b.Loop() {
		for r.Recorded() < before+uint64(2*memory/150) { // a call takes more
			took += load(b, nil)
			turns++
		}
	}
	calls := float64(r.Recorded() - before)
	held := float64(r.Holds()) * whole / memory
	b.ReportMetric(float64(turns*pages)/took.Seconds(), "pages/s")
	b.ReportMetric(calls/float64(turns*pages), "calls/page")
	b.ReportMetric(memory/float64(r.Holds()), "bytes/call")
	b.ReportMetric(held/(calls/took.Seconds()), "seconds-held")
	noTimePerRun(b)
}
