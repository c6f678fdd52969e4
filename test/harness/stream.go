package harness

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Stream starts programs of a user, some at a time, and measures each from fork to
// end. It is root's, and not a Go program: fork in Go waits for the child's execve
// with all else, and so starts one program at a time.
type Stream struct {
	*Process
}

// StartsAs is the beginning of Python scripts that start programs as users: start forks one, with label for LABEL in its arguments.
const StartsAs = `
import os, select, sys, time
def start(uid, label, args):
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.execv(args[0], [a.replace("LABEL", label) for a in args])
        finally:
            os._exit(99)
    return pid
`

const streamScript = StartsAs + `
uid, count, workers = map(int, sys.argv[1:4])
def work(i):
    while (count == 0 or i < count) and not select.select([0], [], [], 0)[0]:
        label = "p%du%d" % (i, uid)
        began = time.monotonic()
        pid = start(uid, label, sys.argv[4:])
        os.write(1, b"start %s %d\n" % (label.encode(), pid))
        _, status = os.waitpid(pid, 0)
        os.write(1, b"ran %s %d %d %d\n" % (label.encode(), pid, (time.monotonic() - began) * 1e6, os.waitstatus_to_exitcode(status)))
        i += workers
if workers > 1:
    for w in range(workers):
        if os.fork() == 0:
            work(w)
            os._exit(0)
    for w in range(workers):
        os.wait()
else:
    work(0)
`

// Stream starts so many programs (0: without end), so many at a time. LABEL in the
// arguments becomes a name that no two programs share.
func (h *Host) Stream(uid uint32, count, workers int, program string, args ...string) *Stream {
	h.T.Helper()
	args = append([]string{"-I", "-S", h.Write("stream.py", streamScript), fmt.Sprint(uid), fmt.Sprint(count), fmt.Sprint(workers), program}, args...)
	return &Stream{h.StartAs(0, "python3", args...)}
}

// A Run is a program that a stream has started and that has ended.
type Run struct {
	Label  string
	PID    int
	Took   time.Duration // from fork to end
	status int
}

// runs are the programs that have ended by now.
func (s *Stream) runs() (all []Run) {
	s.T.Helper()
	for line := range strings.Lines(s.Output.String()) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") || len(fields) == 3 && fields[0] == "start" {
			continue
		}
		if len(fields) != 5 || fields[0] != "ran" {
			s.T.Fatalf("the stream said %q", s.Output)
		}
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(fields[2+i])
		}
		all = append(all, Run{fields[1], n[0], time.Duration(n[1]) * time.Microsecond, n[2]})
	}
	return all
}

// Started are the PIDs of the programs by their labels.
func (s *Stream) Started() map[string]int {
	pids := map[string]int{}
	for line := range strings.Lines(s.Output.String()) {
		if fields := strings.Fields(line); len(fields) == 3 && strings.HasSuffix(line, "\n") {
			pids[fields[1]], _ = strconv.Atoi(fields[2])
		}
	}
	return pids
}

// GoesOn waits until so many more programs have ended.
func (s *Stream) GoesOn(n int) {
	s.T.Helper()
	n += len(s.runs())
	Eventually(s.T, "programs go on", func() error {
		if got := len(s.runs()); got < n {
			return fmt.Errorf("%d have ended, want %d", got, n)
		}
		return nil
	})
}

// Finish lets no more programs start, waits for the rest, and checks that none
// failed or was held up longer than the limit.
func (s *Stream) Finish(limit time.Duration) []Run {
	s.T.Helper()
	s.Stdin.Close()
	if got := s.Wait(); got != 0 {
		s.T.Fatalf("the stream ended with %d: %s", got, Tail(s.Output.String()))
	}
	all := s.runs()
	var longest time.Duration
	for _, r := range all {
		if r.status != 0 {
			s.T.Errorf("program %+v ended with %d", r, r.status)
		}
		longest = max(longest, r.Took)
	}
	if longest > limit {
		s.T.Errorf("a program took %v, want %v at most", longest, limit)
	}
	s.T.Logf("%d programs, the longest took %v", len(all), longest)
	return all
}

// Await waits for the end of a stream that has one.
func (s *Stream) Await() []Run {
	s.T.Helper()
	if got := s.Wait(); got != 0 {
		s.T.Fatalf("the stream ended with %d: %s", got, Tail(s.Output.String()))
	}
	return s.Finish(Patience)
}
