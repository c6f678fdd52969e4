package faults

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// What traced programs do, and what is done to them, turns out as if nobody watched.

// A stealth is what a user's program does, and what its trace shows of it.
type stealth struct {
	name  string
	steps func(h *harness.Host) []string
	code  int
	shows []string // in the trace
}

// suid makes a set-user-ID copy of the villain for root.
func suid(h *harness.Host) string {
	h.T.Helper()
	path := filepath.Join(h.Dir, "suid")
	h.Must(h.T, "install", "-m", "4755", villain(h), path)
	return path
}

func steps(words ...string) func(*harness.Host) []string {
	return func(*harness.Host) []string { return words }
}

var stealths = []stealth{
	{"ends with a status", steps("say", "a", "exit", "7"), 7, []string{"+++ exited with 7 +++"}},
	{"is killed by a signal", steps("say", "a", "signal", "9"), 137, []string{"+++ killed by SIGKILL +++"}},
	{"its child is killed", steps("fork", "say", "a", "signal", "11"), 139, []string{"+++ killed by SIGSEGV", "+++ exited with 139 +++"}},
	{"executes a set-user-ID program", func(h *harness.Host) []string {
		return []string{"ids", "exec", suid(h), "ids", "setuid", "0", "ids", "exit", "3"}
	}, 3, []string{"/suid", "setresuid(0, 0, 0) = 0", "+++ exited with 3 +++"}},
	{"becomes another user by a set-user-ID program", func(h *harness.Host) []string {
		return []string{"exec", suid(h), "setuid", "1", "ids", "exit", "4"}
	}, 4, []string{"setresuid(1, 1, 1)", "+++ exited with 4 +++"}},
	{
		"enters namespaces", steps("unshare", "user", "unshare", "pid", "unshare", "net", "unshare", "mnt", "fork", "ids", "exit", "5"), 5,
		[]string{"unshare(CLONE_NEWPID)", "PID 1", "+++ exited with 5 +++"},
	},
	{
		"has no network there", steps("unshare", "user", "unshare", "net", "packet", "x.badzone.test", "send"), 1,
		[]string{"ENETUNREACH", "+++ exited with 1 +++"},
	},
	{"changes its root", func(h *harness.Host) []string {
		h.Must(h.T, "install", "-D", "-m", "755", villain(h), h.Dir+"/jail/villain")
		return []string{"unshare", "user", "chroot", h.Dir + "/jail", "exec", "/villain", "say", "a", "exit", "6"}
	}, 6, []string{`execve("/villain"`, "+++ exited with 6 +++"}},
	{"may not do what is forbidden", steps("setuid", "0"), 1, []string{"setresuid(0, 0, 0)", "EPERM"}},
}

func TestBehavesAsUntraced(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	all := make([][]string, len(stealths))
	for i, s := range stealths {
		// On a busy machine strace may come a little later.
		all[i] = append([]string{"sleep", "200"}, s.steps(h)...)
	}
	run := func(uid uint32) (ps []*harness.Process, said []string) {
		for i, s := range stealths {
			p := h.StartAs(uid, villain(h), all[i]...)
			if got := p.Wait(); got != s.code {
				t.Errorf("who %s as user %d ended with %d, want %d: %s", s.name, uid, got, s.code, p.Output)
			}
			ps, said = append(ps, p), append(said, strings.ReplaceAll(p.Output.String(), fmt.Sprint(uid), "UID"))
		}
		return ps, said
	}
	_, alone := run(harness.NewUID())

	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	ps, watched := run(uid)
	for i, s := range stealths {
		if alone[i] != watched[i] {
			t.Errorf("who %s says %q when it is traced, otherwise %q", s.name, watched[i], alone[i])
		}
		tr := d.Trace(ps[i].PID, "has ended", harness.Ended)
		_, _, body := harness.ReadTrace(t, tr.File.Path)
		for _, want := range s.shows {
			if !strings.Contains(body, want) {
				t.Errorf("the trace of who %s does not show %q:\n%s", s.name, want, harness.Tail(body))
			}
		}
		if c := tr.Process.ExitCode; c == nil || *c != s.code {
			t.Errorf("the trace of who %s has the exit code %v, want %d; it ended because %q", s.name, c, s.code, tr.Culprit.EndedBecause)
		}
	}
	lean(d)
	d.Stop()
	h.Unharmed(uid)
}

// A process that becomes the user is found by that; one that becomes another stays in
// its trace: it is the same process.
func TestChangesUser(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uid, other, never := harness.NewUID(), harness.NewUID(), harness.NewUID()
	d := h.Hunt(harness.Gated + fmt.Sprintf("guard: {never_users: [%d]}\n", never))
	s := d.Captured(uid)
	comes := h.StartAs(0, villain(h), "wait", "setuid", fmt.Sprint(uid), "wait", "exit", "1")
	comes.Said("wait", 1)
	if d.TracedPIDs()[comes.PID] {
		t.Error("a process of root is traced")
	}
	comes.Say("")
	comes.Said("wait", 2)
	harness.Traced(t, comes)
	if tr := d.Trace(comes.PID, "is there", nil); tr.Culprit.FoundBy != event.FoundUID {
		t.Errorf("it was found by %s, want %s", tr.Culprit.FoundBy, event.FoundUID)
	}

	leaves := h.StartAs(uid, villain(h), "exec", suid(h), "wait", "setuid", fmt.Sprint(other), "wait", "fork", "exec", villain(h), "say", "as another", "exit", "2")
	leaves.Said("wait", 1)
	harness.Traced(t, leaves)
	leaves.Say("")
	leaves.Said("wait", 2)
	leaves.Say("")
	if got := leaves.Wait(); got != 2 {
		t.Errorf("it ended with %d: %s", got, leaves.Output)
	}
	tr := d.Trace(leaves.PID, "has ended", harness.Ended)
	_, _, body := harness.ReadTrace(t, tr.File.Path)
	if !strings.Contains(body, `, "as another", 10) = 10`) || tr.Process.ExitCode == nil || *tr.Process.ExitCode != 2 {
		t.Errorf("the trace of the process that became another user ended because %q, with\n%s", tr.Culprit.EndedBecause, harness.Tail(body))
	}

	// Unless that is one who is never traced.
	hides := h.StartAs(uid, villain(h), "exec", suid(h), "wait", "setuid", fmt.Sprint(never), "wait", "exit", "3")
	hides.Said("wait", 1)
	harness.Traced(t, hides)
	hides.Say("")
	hides.Said("wait", 2)
	tr = d.Trace(hides.PID, "has ended", harness.Ended)
	if want := "detached: guard.never_users names the user"; words.TraceEnded(tr.Culprit.EndedBecause) != want {
		t.Errorf("the trace of the process that became a user who is never traced ended because %q, want %q", tr.Culprit.EndedBecause, want)
	}
	harness.Free(t, hides)
	hides.Say("")
	if got := hides.Wait(); got != 3 {
		t.Errorf("it ended with %d: %s", got, hides.Output)
	}

	if all := d.Captures("--user", fmt.Sprint(other)); len(all) != 0 {
		t.Errorf("there are captures of the other user: %+v", all)
	}
	lean(d)
	d.Stop()
	h.Unharmed(uid, other)
	harness.Free(t, s.Process, comes)
}
