package strace

import (
	"testing"
	"time"
)

func TestParseLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		tid  int // 0: refused
		text string
		kind Kind
	}{
		{"812   1700000000.123456 close(3) = 0", 812, "close(3) = 0", KindCall},
		{"1 1700000000.123456 close(3 <unfinished ...>", 1, "close(3 <unfinished ...>", KindCall},
		{"812 1700000000.123456 <... close resumed>) = 0", 812, "<... close resumed>) = 0", KindResumed},
		{"812 1700000000.123456 --- SIGTERM {si_signo=SIGTERM} ---", 812, "--- SIGTERM {si_signo=SIGTERM} ---", KindSignal},
		{"812 1700000000.123456 +++ exited with 0 +++", 812, "+++ exited with 0 +++", KindEnd},
		{"# 812 1700000000.1 close(3) = 0", 0, "", 0},
		{" > /usr/lib/libc.so.6(__close+0x1a) [0x1]", 0, "", 0},
		{"99999999999 1700000000.1 close(3) = 0", 0, "", 0},
		{"", 0, "", 0},
		{"x", 0, "", 0},
		{"812", 0, "", 0},
		{"812 ", 0, "", 0},
		{"812 17", 0, "", 0},
		{"812 17 ", 0, "", 0},
		{"812 close(3) = 0", 0, "", 0},
		{"8121700000000.1 close(3) = 0", 0, "", 0},
	} {
		tid, at, text := ParseLine([]byte(tt.line))
		if (text != nil) != (tt.tid != 0) || (at != nil) != (tt.tid != 0) || tid != tt.tid || string(text) != tt.text {
			t.Errorf("%q: %d at %s: %q", tt.line, tid, at, text)
		} else if text != nil && text.Kind() != tt.kind {
			t.Errorf("%q: kind %d, want %d", tt.line, text.Kind(), tt.kind)
		}
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	for stamp, want := range map[string]time.Time{
		"1700000000.123456":     time.Unix(1700000000, 123456000),
		"1700000000.1":          time.Unix(1700000000, 1e8),
		"1700000000":            time.Unix(1700000000, 0),
		"1700000000.1234567891": time.Unix(1700000000, 123456789),
		".5":                    time.Unix(0, 5e8),
	} {
		if got := Stamp(stamp).Time(); !got.Equal(want) {
			t.Errorf("%s is %s, want %s", stamp, got, want)
		}
	}
}
