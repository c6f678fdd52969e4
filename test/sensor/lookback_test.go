package sensor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"

	"culprit/internal/event"
	"culprit/test/harness"
)

const remembering = "\nlookback: {users: [all], memory: 8MiB}\n"

// Programs that live two milliseconds, each the first of its user: the look-back proves each hit by
// a line, and shows what the program was and read before.
func TestLookBack(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"frozen": harness.Gated,
		// Nothing but the look-back sees what such a program did.
		"gone": strings.Replace(harness.Gated, "capture:\n", "capture:\n  freeze: \"off\"\n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const programs = 50
			h := harness.NewHost(t, "nft")
			d := h.Hunt(config + remembering)
			script := "read x < /etc/hostname; exec " + harness.Programs.OffenderC + " -w -n "
			for i := range programs {
				p := h.StartAs(harness.NewUID(), "/bin/sh", "-c", script+fmt.Sprintf("back-%d.badzone.test", i))
				if got := p.Wait(); got != 0 {
					t.Fatalf("the program ended with %d: %s", got, p.Output)
				}
			}
			backs := map[string]event.Trace{}
			harness.Eventually(t, "the look-backs have ended", func() error {
				clear(backs)
				for _, tr := range d.Traces() {
					if tr.Culprit.LookBack != nil && harness.Ended(tr) {
						backs[tr.Culprit.Hit.ID] = tr
					}
				}
				if len(backs) < programs {
					return fmt.Errorf("%d have", len(backs))
				}
				return nil
			})
			harness.Eventually(t, "all hits are proven", func() error {
				for _, hit := range d.Hits() {
					if hit.Culprit.Proof == nil {
						return errors.New(hit.Asks() + " is not")
					}
				}
				return nil
			})
			for i := range programs {
				name := fmt.Sprintf("back-%d.badzone.test", i)
				hit := d.Proven(t, name)
				back := backs[hit.Event.ID]
				if p := hit.Culprit.Proof; p == nil || p.Kernel || p.Trace.ID != back.Event.ID {
					t.Errorf("%s is proven by %+v, want a line of %s", name, p, back.Event.ID)
				}
				whole(t, back, name)
			}
			shown := h.Culprit("show", "--evidence", d.Evidence, d.Hit("back-0.badzone.test").Event.ID).Must(t)
			for _, want := range []string{"before the packet", `execve("/bin/sh"`, "/etc/hostname"} {
				if !strings.Contains(shown, want) {
					t.Errorf("show has no %s:\n%s", want, shown)
				}
			}
			d.Stop()
		})
	}
}

// whole checks that a look-back has a program's life.
func whole(t *testing.T, back event.Trace, name string) {
	t.Helper()
	l := back.Culprit.LookBack
	if l == nil || l.TurnedOver || l.Older || l.LeftOut > 0 || !back.Culprit.FromStart {
		t.Errorf("the look-back of %s: %+v", name, back.Culprit)
		return
	}
	head, foot, body := harness.ReadTrace(t, back.File.Path)
	if head["look-back"] == "" || head["strace"] != "" || foot["ended"] == "" {
		t.Errorf("the look-back of %s begins %q and ends %q", name, head, foot)
	}
	rest := strings.Join(strings.Fields(body), " ")
	for _, want := range []string{`execve("/bin/sh", ["/bin/sh", "-c", "read x`, `"/etc/hostname", O_RDONLY`, `execve("` + harness.Programs.OffenderC, `sendto(`, `recvfrom(`, "exit_group(0)"} {
		i := strings.Index(rest, want)
		if i < 0 {
			t.Errorf("the look-back of %s has no %s where it should:\n%s", name, want, body)
			return
		}
		rest = rest[i:]
	}
}

// backOf waits for the look-back of a process, and returns it with its lines.
func backOf(t *testing.T, d *harness.Daemon, pid int) (back event.Trace, body string) {
	t.Helper()
	harness.Eventually(t, "the look-back has ended", func() error {
		for _, tr := range d.Traces() {
			if tr.Process.PID == pid && tr.Culprit.LookBack != nil && harness.Ended(tr) {
				back = tr
				return nil
			}
		}
		return errors.New("it has not")
	})
	_, _, body = harness.ReadTrace(t, back.File.Path)
	return back, body
}

// How a program ended is in its look-back and its story, also if a signal killed it.
func TestLookBackEnds(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "nft")
	d := h.Hunt(strings.Replace(harness.Gated, "capture:\n", "capture:\n  freeze: \"off\"\n", 1) + remembering)
	for name, tt := range map[string]struct {
		become string // by the sender, after its packet
		code   int
		want   string
	}{
		"by itself":   {"exit 3", 3, "exited with 3"},
		"killed":      {"kill -KILL $$", 128 + int(syscall.SIGKILL), "killed by SIGKILL"},
		"by a signal": {"kill -TERM $$", 128 + int(syscall.SIGTERM), "killed by SIGTERM"},
	} {
		p := h.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-w", "-n", strings.ReplaceAll(name, " ", "-")+".badzone.test", "-e", "/bin/sh", "-c", tt.become)
		p.Wait()
		back, body := backOf(t, d, p.PID)
		if code := back.Process.ExitCode; !strings.Contains(body, fmt.Sprintf("%-5d ", p.PID)) || !strings.Contains(body, "+++ "+tt.want+" +++") || code == nil || *code != tt.code {
			t.Errorf("%s: the look-back ends with %v:\n%s", name, code, body)
		}
		inOrder(t, "show", h.Culprit("show", "--evidence", d.Evidence, back.Culprit.Hit.ID).Must(t), "asked 127.0.0.1:53", "was told by 127.0.0.1:53", "became `/bin/sh -c "+tt.become+"`", tt.want)
	}
	d.Stop()
}

// Who makes so many calls that the memory forgets what a program did is not taken for a program that did
// nothing: if it forgets what came after the packet, the look-back says so, and if all, there is a loss.
func TestLookBackForgets(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "nft")
	d := h.Hunt(strings.Replace(harness.Gated, "capture:\n", "capture:\n  freeze: \"off\"\n", 1) + "\nlookback: {users: [all], memory: 4MiB, strings: 2048}\n")
	noise := func(pause float64) (all []*harness.Process) {
		for range runtime.NumCPU() {
			all = append(all, h.StartAs(harness.NewUID(), "python3", "-I", "-S", "-c", fmt.Sprintf("import os, time\nprint('noise', flush=True)\nwhile True:\n  try: os.chdir('/nowhere/' + 2000 * 'x')\n  except OSError: time.sleep(%f)", pause)))
			all[len(all)-1].Said("noise", 1)
		}
		return all
	}
	some := noise(0.0001)
	// On a busy machine the noise may be too little for one second.
	var p *harness.Process
	harness.Eventually(t, "a look-back forgets what came after the packet", func() error {
		p = h.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", "after.badzone.test", "-a", "600")
		p.Wait()
		back, _ := backOf(t, d, p.PID)
		_, foot, _ := harness.ReadTrace(t, back.File.Path)
		if because := back.Culprit.EndedBecause; because == nil || because.Code != event.EndedLookBackFull || !strings.Contains(foot["ended"], "may be missing") {
			return fmt.Errorf("the look-back ended because of %+v, %q", because, foot["ended"])
		}
		return nil
	})
	for _, one := range some {
		one.Signal(syscall.SIGKILL)
	}
	noise(0)
	h.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", "all.badzone.test").Wait()
	d.Hit("all.badzone.test")
	harness.Eventually(t, "there is a look-back, or a loss", func() error {
		losses := h.Culprit("losses", "--evidence", d.Evidence).Must(t)
		for _, tr := range d.Traces() {
			if tr.Culprit.LookBack != nil && tr.Process.PID != p.PID && tr.Culprit.LookBack.TurnedOver {
				return nil
			}
		}
		if !strings.Contains(losses, "the memory had forgotten all of it") {
			return errors.New(losses)
		}
		return nil
	})
	d.Stop()
}

// Secrets are masked in a look-back as in any trace, and it is searched like one.
func TestLookBackMasked(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-0c9f"
	h := harness.NewHost(t, "nft")
	d := h.Hunt(strings.Replace(harness.Gated, "capture:\n", "capture:\n  redact: ['hunter2-\\w+']\n", 1) + remembering)
	file := h.Write(secret, "")
	p := h.StartAs(harness.NewUID(), "/bin/sh", "-c", "read x < "+file+"; exec "+harness.Programs.OffenderC+" -w -n masked.badzone.test", secret)
	p.Wait()
	_, body := backOf(t, d, p.PID)
	if strings.Contains(body, secret) || !strings.Contains(body, strings.Repeat("*", len(secret))+`", O_RDONLY`) {
		t.Errorf("the look-back is not masked:\n%s", body)
	}
	hit := d.Hit("masked.badzone.test")
	if shown := h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t); strings.Contains(shown, secret) {
		t.Errorf("show is not masked:\n%s", shown)
	}
	if found := h.Culprit("grep", "--evidence", d.Evidence, `^\d+ +[\d.]+ execve\("/bin/sh"`).Must(t); !strings.Contains(found, fmt.Sprint(p.PID)) {
		t.Errorf("grep does not find it: %s", found)
	}
	d.Stop()
}

// A user who is not recorded has no look-back, and one that nobody records costs nothing.
func TestNoLookBack(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "nft")
	without := h.Hunt(harness.Gated)
	if programs := recording(t, without.PID); len(programs) > 0 {
		t.Errorf("nobody is recorded, and the programs %v are loaded", programs)
	}
	without.Stop()
	d := h.Hunt(harness.Gated + fmt.Sprintf("\nlookback: {users: [\"%d\"]}\n", harness.NewUID()))
	p := h.StartAs(harness.NewUID(), harness.Programs.OffenderC, "-n", "other.badzone.test")
	p.Wait()
	d.Hit("other.badzone.test")
	d.Stop()
	for _, tr := range d.Traces() {
		if tr.Culprit.LookBack != nil {
			t.Errorf("there is one: %+v", tr)
		}
	}
}

// Nothing is left in the kernel of a daemon that was killed.
func TestLookBackOfKilled(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "nft")
	d := h.Hunt(harness.Gated + remembering)
	programs := recording(t, d.PID)
	if len(programs) != 3 {
		t.Fatalf("the daemon has the programs %v, want three", programs)
	}
	d.Signal(syscall.SIGKILL)
	harness.Eventually(t, "the programs are gone", func() error {
		for _, id := range programs {
			if p, err := ebpf.NewProgramFromID(id); err == nil {
				p.Close()
				return fmt.Errorf("%d is there", id)
			}
		}
		return nil
	})
}

// recording returns the programs of the look-back that a process has open.
func recording(t *testing.T, pid int) (ids []ebpf.ProgramID) {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		text, _ := os.ReadFile(info)
		_, after, ok := strings.Cut(string(text), "prog_id:")
		if fields := strings.Fields(after); !ok || len(fields) == 0 || strings.Contains(string(text), "link_id:") {
			continue
		} else if id, err := strconv.Atoi(fields[0]); err == nil {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			if err != nil {
				continue
			}
			if about, err := p.Info(); err == nil && slices.Contains([]string{"culprit_return", "culprit_start", "culprit_end"}, about.Name) {
				ids = append(ids, ebpf.ProgramID(id))
			}
			p.Close()
		}
	}
	return ids
}
