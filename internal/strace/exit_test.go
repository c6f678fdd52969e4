package strace

import "testing"

// exitStatus returns that of process 812, according to the line.
func exitStatus(line []byte) (code int, ok bool) {
	tid, _, text := ParseLine(line)
	if text == nil || tid != 812 {
		return 0, false
	}
	return text.ExitStatus()
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		code int
		ok   bool
	}{
		{"812   1700000000.123456 +++ exited with 3 +++", 3, true},
		{"812 1700000000.123456 +++ killed by SIGKILL +++", 137, true},
		{"812 1700000000.123456 +++ killed by SIGSEGV (core dumped) +++", 139, true},
		{"812 1700000000.123456 +++ killed by SIGRT_2 +++", 162, true},
		{"812 1700000000.123456 +++ killed by SIGNOTHING +++", 128, true},
		{"812 1700000000.123456 +++ exited with -1 +++", 0, false},
		{"813 1700000000.123456 +++ exited with 3 +++", 0, false},
		{`812 1700000000.123456 write(1, "\n812 1700000000.1 +++ exited with 3 +++`, 0, false},
		{"812 1700000000.123456 +++ superseded by execve in pid 813 +++", 0, false},
		{"", 0, false},
	} {
		if code, ok := exitStatus([]byte(tt.line)); code != tt.code || ok != tt.ok {
			t.Errorf("%q: status %d, %v; want %d, %v", tt.line, code, ok, tt.code, tt.ok)
		}
	}
}

func FuzzExitStatus(f *testing.F) {
	f.Add([]byte("812 1700000000.1 +++ killed by SIGRT_99999999999999999999 +++"))
	f.Add([]byte("812 1700000000.1 +++ exited with 3 +++"))
	f.Add([]byte("813 1700000000.1 +++ exited with 3 +++")) // another thread
	f.Fuzz(func(t *testing.T, line []byte) {
		if code, ok := exitStatus(line); ok && code < 0 {
			t.Errorf("%q: status %d", line, code)
		}
	})
}
