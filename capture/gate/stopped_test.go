package gate

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"culprit/internal/proc"
)

// If nobody can attach to a process in execve, it is stopped before its first instruction
// instead, and goes on nevertheless.
func TestStopMode(t *testing.T) {
	const deadline = 500 * time.Millisecond
	for _, c := range []struct {
		name     string
		deadline time.Duration
		release  func(*driver, Held)
	}{
		{"go", forever, func(d *driver, h Held) { d.send(encodeGo(h.Number)) }},
		{"deadline", deadline, func(*driver, Held) {}},
		{"end of the gate", forever, func(d *driver, _ Held) { d.conn.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, other := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
			d := startGate(t, nil, c.deadline, "--stop")
			d.watch(r.uid)
			start := r.run("/bin/true")
			h := d.hold()
			if h.UID != r.uid || h.Path != resolve(t, "/bin/true") {
				t.Errorf("held: %+v", h)
			}
			if c.deadline == forever {
				eventually(t, "the program is stopped", func() error {
					st, err := proc.Default.Stat(h.ID.PID)
					if err == nil && st.State != 'T' {
						err = fmt.Errorf("its state is %c", st.State)
					}
					return err
				})
				if exe, err := proc.Default.Executable(h.ID.PID); err != nil || exe != h.Path {
					t.Errorf("the process is %s (%v), want it to be %s by now", exe, err, h.Path)
				}
				atFirstInstruction(t, h.ID.PID)
				other.run("/bin/true")
				other.end()
				r.waits()
			}
			c.release(d, h)
			if took := r.end().Sub(start); c.deadline == deadline && took < deadline {
				t.Errorf("the program was stopped for %v, want %v", took, deadline)
			}
			if c.deadline == deadline {
				if got := d.counts(); got.Held != 1 || got.Expired != 1 {
					t.Errorf("the counts are %+v, want one that was held until the deadline", got)
				}
			}
		})
	}
}

// atFirstInstruction checks that a process has executed nothing of its program: its next
// instruction is the entry of the loader.
func atFirstInstruction(t *testing.T, pid int) {
	t.Helper()
	_, loader := dynamic(t)
	e, err := elf.Open(loader)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		t.Fatal(err)
	}
	const atBase = 7 // where the loader is
	var base uint64
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.NativeEndian.Uint64(auxv) == atBase {
			base = binary.NativeEndian.Uint64(auxv[8:])
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	if err != nil {
		t.Logf("where the process stands cannot be seen here: %v", err)
		return
	}
	fields := strings.Fields(string(text))
	at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
	if want := base + e.Entry; err != nil || base == 0 || at != want {
		t.Errorf("the process stands at %#x (%q, %v), want its first instruction at %#x", at, text, err, want)
	}
}
