package snapshot

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"culprit/internal/event"
)

func TestParseStack(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]event.Frame{
		"#0  0x00007fbe7e190dd0 pause - /usr/lib/x86_64-linux-gnu/libc.so.6":                 {Address: "0x00007fbe7e190dd0", Function: "pause", Module: "/usr/lib/x86_64-linux-gnu/libc.so.6"},
		"#3  0x00005594eff44e7a - /usr/bin/php8.2":                                           {Address: "0x00005594eff44e7a", Module: "/usr/bin/php8.2"},
		"#11 0x00007f3c94245305 __libc_start_main@@GLIBC_2.34 - /usr/lib/libc.so.6":          {Address: "0x00007f3c94245305", Function: "__libc_start_main@@GLIBC_2.34", Module: "/usr/lib/libc.so.6"},
		"#1  0x00005594eff44e7a":                                                             {Address: "0x00005594eff44e7a"},
		"#1  0x00005594eff44e7a f":                                                           {Address: "0x00005594eff44e7a", Function: "f"},
		"#1  0x00007ffd1 __vdso_time - [vdso: 812]":                                          {Address: "0x00007ffd1", Function: "__vdso_time", Module: "[vdso: 812]"},
		"#1  0x00007ffd1 std::operator- <int>(A const&, B) - /tmp/a - /b.so":                 {Address: "0x00007ffd1", Function: "std::operator- <int>(A const&, B)", Module: "/tmp/a - /b.so"},
		"#1  0x00007ffd1 " + strings.Repeat("\x1b", 500) + " - /" + strings.Repeat("m", 600): {Address: "0x00007ffd1", Function: strings.Repeat("\x1b", 85) + "…", Module: "/" + strings.Repeat("m", 511) + "…"},
	} {
		if got := parseStack("TID 812:\n" + line + "\n"); len(got) != 1 || got[0] != want {
			t.Errorf("%q became %+v", line, got)
		}
	}
	for _, none := range []string{"", "TID 812:\n", "#\n", "#x 0x1 f\n", "#0 1234 f\n", "#0 0xg f\n", "0x1 f\n", "#0\n"} {
		if got := parseStack(none); len(got) != 0 {
			t.Errorf("%q became %+v", none, got)
		}
	}
	if got := parseStack(strings.Repeat("#0 0x1 f\n", 10*maxFrames)); len(got) != maxFrames {
		t.Errorf("%d frames", len(got))
	}
}

const mapsText = `55d0a1c00000-55d0a1c01000 r--p 00000000 fe:00 3145                       /usr/bin/my prog
55d0a1c01000-55d0a1c02000 r-xp 00001000 fe:00 3145                       /usr/bin/my prog
55d0a1c02000-55d0a1c03000 rw-p 00002000 fe:00 3145                       /usr/bin/my prog
55d0a2000000-55d0a2021000 rw-p 00000000 00:00 0                          [heap]
7f1c00000000-7f1c00001000 rwxp 00000000 00:00 0 
7f1c10000000-7f1c10001000 r-xp 00000000 00:01 77                         /memfd:evil (deleted)
7f1c20000000-7f1c20001000 r--s 00000000 00:2a 9                          /mnt/ssh/x
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
7f1c3000`

func TestParseMaps(t *testing.T) {
	t.Parallel()
	got, devices := parseMaps(mapsText)
	want := []event.Mapping{
		{Start: "0x55d0a1c00000", End: "0x55d0a1c03000", Permissions: "rwx", Path: "/usr/bin/my prog"},
		{Start: "0x7f1c00000000", End: "0x7f1c00001000", Permissions: "rwx"},
		{Start: "0x7f1c10000000", End: "0x7f1c10001000", Permissions: "r-x", Path: "/memfd:evil (deleted)"},
		{Start: "0x7f1c20000000", End: "0x7f1c20001000", Permissions: "r--", Path: "/mnt/ssh/x"},
		{Start: "0x7ffd00000000", End: "0x7ffd00002000", Permissions: "r-x", Path: "[vdso]"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("maps %+v", got)
	}
	if d := slices.Sorted(maps.Keys(devices)); !slices.Equal(d, []string{"0:1", "0:42", "254:0"}) {
		t.Errorf("devices %q", d)
	}
}

func TestParseSyscall(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*event.Registers{
		"34 0x2 0x2 0x0 0x7fbe7e0d6fa0 0x0 0x7fbe7e2b76d0 0x7fff0cf3b8b8 0x7fbe7e190dd0\n": {
			Syscall: 34, Args: []string{"0x2", "0x2", "0x0", "0x7fbe7e0d6fa0", "0x0", "0x7fbe7e2b76d0"}, SP: "0x7fff0cf3b8b8", PC: "0x7fbe7e190dd0",
		},
		"-1 0x7fff0cf3b8b8 0x401639\n": {Syscall: -1, Args: []string{}, SP: "0x7fff0cf3b8b8", PC: "0x401639"},
		"running\n":                    nil, "": nil, "34 0x2 0x2\n": nil, "x 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8\n": nil, "1 0x1 y 0x3 0x4 0x5 0x6 0x7 0x8\n": nil,
	} {
		if got, err := parseSyscall(text); !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q became %+v, %v", text, got, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	got := parseStatus("Name:\ta\nTgid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t9 10 \nThreads:\t3\nSigQ:\t0/1\n")
	want := status{uids: []uint32{1, 2, 3, 4}, gids: []uint32{5, 6, 7, 8}, groups: []uint32{9, 10}, threads: 3}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestParseCgroup(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0::/system.slice/cron.service\n":                              "/system.slice/cron.service",
		"12:pids:/a\n1:name=systemd:/system.slice/x:y.service\n0::/\n": "/system.slice/x:y.service",
		"12:pids:/a\n1:name=systemd:/b\n0::/user.slice\n":              "/user.slice",
		"12:pids:/a\n": "/a",
		"":             "", "x\n": "", "0::/\n": "/",
	} {
		if got := parseCgroup(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// Whatever a process makes the kernel or eu-stack print, what becomes of it is bounded.
func FuzzParse(f *testing.F) {
	f.Add("TID 1:\n#0  0x1 f - /m\n#1 0x2 - [vdso: 1]\n")
	f.Add(mapsText)
	f.Add("34 0x2 0x2 0x0 0x7fbe7e0d6fa0 0x0 0x7fbe7e2b76d0 0x7fff0cf3b8b8 0x7fbe7e190dd0\n")
	f.Add("Uid:\t1\t2\t3\t4\nGid:\t5\nGroups:\t9 10 \nThreads:\t3\n")
	f.Add("1:name=systemd:/b\n0::/user.slice\n")
	f.Add("socket:[18446744073709551615]")
	f.Fuzz(func(t *testing.T, text string) {
		for _, frame := range parseStack(text) {
			if b, err := json.Marshal(frame); err != nil || len(b) > 3*maxStackText {
				t.Errorf("a frame of %d bytes: %v", len(b), err)
			}
		}
		all, _ := parseMaps(text)
		for _, m := range all {
			if len(m.Permissions) != 3 {
				t.Errorf("%+v", m)
			}
		}
		parseSyscall(text)
		parseStatus(text)
		parseCgroup(text)
		socketInode(text)
		list([]byte(text))
	})
}
