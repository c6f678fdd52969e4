package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// catchByPolling lets the old trick meet programs that start in one way: a loop
// looks through /proc each millisecond and starts a strace on each new process of
// the user. It knows the user from the beginning.
func catchByPolling(b *testing.B, p catchPaths, w way, prefix string, count int) result {
	n := newNet(b)
	l := p.start(b, n, w, prefix, count)
	dir := b.TempDir()
	var straces sync.WaitGroup
	files := map[string]int{} // PID by trace file
	watching, stop := context.WithCancel(b.Context())
	running, kill := context.WithTimeout(context.Background(), catchLimit)
	defer kill()
	looped := make(chan struct{})
	go func() {
		defer close(looped)
		seen := map[int]bool{}
		for tick := time.NewTicker(time.Millisecond); watching.Err() == nil; <-tick.C {
			for _, pid := range newProcesses(seen, uint32(offenderUID)) {
				file := filepath.Join(dir, strconv.Itoa(len(files)))
				files[file] = pid
				cmd := exec.CommandContext(running, "strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", "512", "-o", file, "-p", strconv.Itoa(pid))
				if cmd.Start() == nil {
					straces.Go(func() { cmd.Wait() })
				}
			}
		}
	}()
	if w.asUser {
		allTraced(b, []*exec.Cmd{l.cmd})
	}
	done := l.run(b)
	stop()
	<-looped
	straces.Wait()

	seen := sightings{}
	for file, pid := range files {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			seen.read(b, file, pid, false, "")
		}
	}
	r := done.result(w)
	// Nothing but the PID names a program that has sent its query already.
	for label, program := range done.programs {
		if at := seen["pid "+strconv.Itoa(program.pid)]; at != nil && w.each == 0 {
			named := seen.at(label)
			named.traced, named.fromStart = true, named.fromStart || at.fromStart
		}
	}
	seen.count(&r, done)
	return r
}

// newProcesses are the processes of a user that were not seen before.
func newProcesses(seen map[int]bool, uid uint32) (pids []int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(0)
	there := make(map[int]bool, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		var st syscall.Stat_t
		// Not yet the user's: it may become so, look again the next time.
		if seen[pid] {
			there[pid] = true
		} else if syscall.Stat("/proc/"+name, &st) == nil && st.Uid == uid {
			there[pid] = true
			pids = append(pids, pid)
		}
	}
	clear(seen)
	for pid := range there {
		seen[pid] = true
	}
	return pids
}

// catchOthers measures what a program of another user takes from fork to end: without
// a daemon, with one that captures nobody, with a capture live, and again without.
func catchOthers(b *testing.B, p catchPaths, count int) (p50 [4]time.Duration) {
	n := newNet(b)
	measure := func() time.Duration {
		var all []time.Duration
		for _, r := range p.launcher(b, n, false, offenderUID+1, "exec", count, 1, "r98", p.launch, "noop").run(b).programs {
			all = append(all, r.took)
		}
		return quantile(all, 0.5)
	}
	p50[0] = measure()
	d := startCatcher(b, n, "")
	p50[1] = measure()
	d.firstHit(b, n, p)
	p50[2] = measure()
	d.stop(b)
	p50[3] = measure()
	return p50
}
