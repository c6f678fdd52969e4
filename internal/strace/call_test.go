package strace

import "testing"

func TestNameAndReturned(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, name string
		returned   int64
	}{
		{`close(3) = 0 <0.000012>`, "close", 0},
		{`openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY) = 3</etc/hosts>`, "openat", 3},
		{`getpid()          = 813`, "getpid", 813},
		{`open("/x", O_RDONLY) = -1 ENOENT (No such file or directory)`, "open", Failed},
		{`connect(3, …) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)`, "connect", Restarted},
		{`exit(0) = ?`, "exit", Unknown},
		{`write(1, "a = 1", 5 <unfinished ...>`, "write", Unknown},
		{`read(3, "", 1) = 99999999999999999999`, "read", Unknown},
		{`<... clone resumed>, child_tidptr=0x7f) = 813`, "clone", 813},
		{`<... clone resumed> )             = 813`, "clone", 813},
		{`<... read resumed>"x" <unfinished ...>`, "read", Unknown},
		{`--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---`, "", Unknown},
		{`+++ killed by SIGSEGV (core dumped) +++`, "", Unknown},
		{`this_is_no_system_call_of_any_kernel(1) = 1`, "", 1},
		{`(`, "", Unknown},
		{`x`, "", Unknown},
	} {
		l := Text(tt.text)
		if string(l.Name()) != tt.name || l.Returned() != tt.returned {
			t.Errorf("%s: %q returned %d; want %q, %d", tt.text, l.Name(), l.Returned(), tt.name, tt.returned)
		}
	}
}

func TestUnfinishedAndResumed(t *testing.T) {
	t.Parallel()
	if begin, ok := CutUnfinished([]byte(`close(3 <unfinished ...>`)); !ok || string(begin) != "close(3 " {
		t.Errorf("%q, %v", begin, ok)
	}
	if begin, ok := CutUnfinished([]byte(`close(3) = 0`)); ok {
		t.Errorf("a finished call is unfinished: %q", begin)
	}
	for _, tt := range []struct {
		text, name, end string
		ok              bool
	}{
		{`<... close resumed>) = 0`, "close", ") = 0", true},
		{`<... close resumed> ) = 0`, "close", " ) = 0", true},
		{`<... close_range resumed>) = 0`, "close", "", false},
		{`<... clo`, "close", "", false},
		{`close(3) = 0`, "close", "", false},
	} {
		end, ok := Text(tt.text).CutResumed(tt.name)
		if ok != tt.ok || ok && string(end) != tt.end {
			t.Errorf("%s: %q, %v", tt.text, end, ok)
		}
	}
}
