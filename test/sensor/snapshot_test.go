package sensor

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/test/harness"
)

// A program that is in no file asks a question and is gone. What it was is in the evidence: with
// its socket, its call stack, its environment without the secret, and a copy of it.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(harness.Programs.OffenderC)
	if err != nil {
		t.Fatal(err)
	}
	h := harness.NewHost(t, testkit.Backends[0])
	d := h.Hunt(harness.Gated + "  redact: ['SECRET=(.*)']\n")
	memory, err := unix.MemfdCreate("evil", 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(memory), "evil")
	defer file.Close()
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/fd/3", "-n", "memory.badzone.test")
	cmd.ExtraFiles, cmd.Env = []*os.File{file}, []string{"WHO=me", "SECRET=hunter2"}
	p := h.StartCommandAs(harness.NewUID(), cmd)
	if got := p.Wait(); got != 0 {
		t.Fatalf("the program ended with %d: %s", got, p.Output)
	}
	hit := d.Hit("memory.badzone.test")
	first(t, hit, p.PID, hit.User.UID())

	var s event.Snapshot
	harness.Eventually(t, "its executable has been read", func() error {
		hit = d.Hit("memory.badzone.test")
		if hit.Culprit.Snapshot == nil {
			return fmt.Errorf("the hit has no snapshot: %+v", hit.Culprit)
		}
		s = event.Snapshot{}
		said := h.Culprit("show", "--json", "--evidence", d.Evidence, hit.Culprit.Snapshot.ID).Must(t)
		if err := json.Unmarshal([]byte(said), &s); err != nil {
			return err
		}
		if !s.Final() {
			return fmt.Errorf("incomplete: %+v", s.Culprit.Incomplete)
		}
		return nil
	})
	c := &s.Culprit
	if s.Process.PID != p.PID || !slices.Contains(s.Process.Args, "memory.badzone.test") || !slices.Contains(s.Process.EnvVars, "WHO=me") || !slices.Contains(s.Process.EnvVars, "SECRET=*******") || s.Process.User == nil || s.Process.User.ID != hit.User.ID {
		t.Errorf("process %+v", s.Process)
	}
	if c.Replaceable == nil || c.Replaceable.Code != event.ReplaceableMemory || c.KeptExecutable == nil || s.Process.Hash == nil {
		t.Fatalf("executable: %+v, kept as %+v, hash %v", c.Replaceable, c.KeptExecutable, s.Process.Hash)
	}
	if kept, err := os.ReadFile(c.KeptExecutable.Path); err != nil || string(kept) != string(content) || filepath.Base(c.KeptExecutable.Path) != s.Process.Hash.SHA256 {
		t.Errorf("the copy has %d bytes, the program %d: %v", len(kept), len(content), err)
	}
	from := hit.Source.String()
	if !slices.ContainsFunc(c.Sockets, func(one event.Socket) bool {
		return one.Protocol == "udp" && strings.HasSuffix(one.Local, from[strings.LastIndex(from, ":"):])
	}) {
		t.Errorf("no socket of %s: %+v", from, c.Sockets)
	}
	if c.Registers == nil || c.Registers.TID != p.PID || c.Registers.Syscall < 0 {
		t.Errorf("registers %+v", c.Registers)
	}
	if len(c.Stack) == 0 && !slices.ContainsFunc(c.Incomplete, func(i event.Incomplete) bool {
		return i.Part == event.PartStack && (i.Reason.Code == event.IncompleteTime || i.Reason.Code == event.IncompleteNotInstalled)
	}) {
		t.Errorf("no stack: %+v", c.Incomplete)
	}
	for _, i := range c.Incomplete {
		if i.Part != event.PartStack {
			t.Errorf("incomplete: %+v", i)
		}
	}
	t.Logf("it stood still for %s for its snapshot; incomplete: %+v", time.Duration(s.Event.Duration), c.Incomplete)
	bundle := filepath.Join(t.TempDir(), "case.tar.zst")
	h.Culprit("export", "--evidence", d.Evidence, "--output", bundle, hit.Event.ID).Must(t)
	packed, err := exec.CommandContext(t.Context(), "tar", "--zstd", "-tf", bundle).CombinedOutput()
	if err != nil || !strings.Contains(string(packed), "executables/"+s.Process.Hash.SHA256) {
		t.Errorf("the export has %s, %v", packed, err)
	}
}
