package lookback

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// run runs a shell script as nobody, and returns its process.
func run(t testing.TB, script string) proc.ID {
	t.Helper()
	c := exec.Command("/bin/sh", "-c", script)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := proc.Default.Stat(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	return st.ID
}

func text(s *Story) string {
	var b []byte
	for i := range s.Events {
		b = s.Append(b, &s.Events[i])
	}
	return string(b)
}

// A child's story begins with its parent's, up to the fork.
func TestStory(t *testing.T) {
	r := record(t, Config{Users: []uint32{nobody}, Strings: 64, Memory: 8 << 20}, true)
	shell := run(t, "read x; (cat /etc/hostname >/dev/null; :); cat /etc/hosts >/dev/null; :")
	s := r.Read(Sender{ID: shell})
	if s.TurnedOver || s.Older || !s.Started || s.LeftOut != 0 || s.Overwritten != 0 {
		t.Errorf("%+v", s)
	}
	if got := text(s); !strings.Contains(got, `execve("/bin/sh", ["/bin/sh", "-c", "read x; (cat /etc/hostname`) || strings.Contains(got, "/etc/hosts\"") {
		t.Errorf("the shell:\n%s", got)
	}
	var cat proc.ID
	all := decoder{calls(), compatCalls(), 64}
	r.walk(new(Story), 0, func([]byte) bool { return true }, func(b []byte) {
		if e, _ := all.decode(b); len(e.parts) > 0 && string(e.parts[0].bytes) == "/etc/hosts" {
			cat = e.Process
		}
	})
	s = r.Read(Sender{ID: cat})
	got := text(s)
	if len(s.Processes) < 2 || s.Processes[1] != shell {
		t.Errorf("parents: %v, want %v", s.Processes, shell)
	}
	for _, want := range []string{`execve("/bin/sh"`, `execve("/usr/bin/cat", ["cat", "/etc/hosts"]`, `"/etc/hosts", O_RDONLY) = 3`} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if later := r.Read(Sender{ID: cat, After: s.Until}); len(later.Events) > 0 {
		t.Errorf("more: %s", text(later))
	}
}

// Calls of some users can be left out, also a parent's.
func TestWithout(t *testing.T) {
	s := &Story{Events: []Event{{UID: 1}, {UID: 2}, {UID: 1}}}
	if s.Without(func(uid uint32) bool { return uid == 1 }); len(s.Events) != 1 || s.Events[0].UID != 2 {
		t.Errorf("%+v", s.Events)
	}
}

// A ring that has turned over says so, and what is left is whole.
func TestTurnedOver(t *testing.T) {
	r := record(t, Config{Users: []uint32{nobody}, Strings: 64, Memory: 4 << 20}, true)
	id := run(t, "read x; i=0; while [ $i -lt 60000 ]; do i=$((i+1)); cd /nonexistent/directory/$i 2>/dev/null; done; :")
	s := r.Read(Sender{ID: id})
	// Its begin may still be in the ring of a processor that it left.
	if began := proc.StartTime(id.Start); !s.TurnedOver || s.Older == s.Started || !s.Horizon.After(began) || s.LeftOut == 0 || len(s.Events) == 0 {
		t.Errorf("turned over %v, older %v, started %v, left out %d, events %d, complete since %v, began %v", s.TurnedOver, s.Older, s.Started, s.LeftOut, len(s.Events), s.Horizon, began)
	}
	for i := range s.Events {
		if e := &s.Events[i]; e.Name == "chdir" && (e.Result != -int64(unix.ENOENT) || !strings.HasPrefix(string(e.parts[0].bytes), "/nonexistent/directory/")) {
			t.Fatalf("%+v", e)
		}
	}
}

// Memory that is not there is said to be missing.
func TestMissing(t *testing.T) {
	s := new(Story)
	e := Event{Name: "openat", TID: 7, form: pathSecond, At: 3000, Result: -int64(unix.EFAULT), Args: [6]uint64{0xffffff9c, 0x1234, 0}, parts: []part{{kind: partString, failed: true}}}
	if got, want := string(s.Append(nil, &e)), "7     0.000003 openat(AT_FDCWD, 0x1234 /* not in memory */, O_RDONLY) = -1 EFAULT (Bad address)\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Other users, and root if all are recorded, leave nothing.
func TestOthers(t *testing.T) {
	for _, c := range []Config{{Users: []uint32{nobody - 1}}, {All: true}} {
		c.Strings, c.Memory = 256, 8<<20
		r := record(t, c, true)
		if !c.All {
			run(t, "read x; cat /etc/hosts")
		} else if err := exec.Command("cat", "/etc/hosts").Run(); err != nil {
			t.Fatal(err)
		}
		r.walk(new(Story), 0, func(b []byte) bool { return u32(b, recUID) != nobody-1 && !c.All || u32(b, recUID) == 0 }, func(b []byte) {
			t.Errorf("recorded the user %d", u32(b, recUID))
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{calls(), compatCalls(), 64}
		if e, ok := d.decode(b); ok {
			new(Story).Append(nil, &e)
		}
	})
}

// Of a program its arguments are kept as it has got them, up to a bound, and what a script is.
func TestArguments(t *testing.T) {
	dir, err := os.MkdirTemp("", "lookback")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script := dir + "/script"
	os.Chmod(dir, 0o755)
	if err := os.WriteFile(script, []byte("#!/bin/sh -e\ntrue\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := record(t, Config{Users: []uint32{nobody}, Strings: 64, Memory: 8 << 20}, true)
	long := strings.Repeat("x", 300)
	id := run(t, "read x; exec "+script+" one '' 'two '"+long)
	got := text(r.Read(Sender{ID: id}))
	// Of the last argument, as many bytes as 256 leave.
	want := `execve("` + script + `", ["/bin/sh", "-e", "` + script + `", "one", "", "two `
	rest := 256 - len("/bin/sh\x00-e\x00"+script+"\x00one\x00\x00two ")
	want += long[:rest] + `"...] /* a script: as its interpreter got them */, 0x`
	if !strings.Contains(got, want) {
		t.Errorf("want %s in\n%s", want, got)
	}
}
