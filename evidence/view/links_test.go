package view

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// named writes the links of a line: kind and text.
func named(line string) (all []string) {
	for _, l := range Links([]byte(line)) {
		all = append(all, string("tfa"[l.Kind])+" "+line[l.From:l.To])
	}
	return all
}

func TestLinks(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`# executable: /usr/bin/php`:    nil,
		`812 1.0 +++ exited with 0 +++`: {"t 812"},
		`812   1.0 openat(AT_FDCWD</root>, "x.php", O_RDONLY) = 3</root/x.php> <0.000008>`:         {"t 812", "f /root", "f x.php", "f /root/x.php"},
		`812 1.0 read(3</etc/\74x\76>, "relative", 8) = 8`:                                         {"t 812", `f /etc/\74x\76`},
		`812 1.0 read(3</dev/pts/0<char 136:0>>, "\"/no", 8) = 8`:                                  {"t 812", "f /dev/pts/0"},
		`812 1.0 execve("/bin/sh", ["sh", "-c", "./run", "/x \"y\""], []) = 0`:                     {"t 812", "f /bin/sh", "f ./run", `f /x \"y\"`},
		`812 1.0 sendto(4<UDP:[127.0.0.1:4242->192.0.2.53:53]>, "x", 1, 0, NULL, 0) = 1`:           {"t 812", "a 127.0.0.1", "a 192.0.2.53"},
		`812 1.0 read(4<TCPv6:[[::1]:4242->[2001:db8::1]:53]>, "x", 1) = 1`:                        {"t 812", "a ::1", "a 2001:db8::1"},
		`812 1.0 bind(4<UDP:[0.0.0.0:68]>, {inet_addr("10.0.0.1")}) = 0`:                           {"t 812", "a 0.0.0.0", "a 10.0.0.1"},
		`812 1.0 connect(4<UNIX-STREAM:[1]>, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0`:     {"t 812", "f /run/x"},
		`812 1.0 connect(5<TCPv6:[7]>, {inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = -1 E`:       {"t 812", "a ::1"},
		`812 1.0 openat(AT_FDCWD</>, "/etc/pass`:                                                   {"t 812"},
		`812 1.0 openat(AT_FDCWD</`:                                                                {"t 812"},
		`812 1.0 read(3<`:                                                                          {"t 812"},
		`812 1.0 read(3<UDP:[`:                                                                     {"t 812"},
		`812 1.0 read(3<UDP:[->->]>, "") = 0`:                                                      {"t 812"},
		`812 1.0 open("` + strings.Repeat("x", longestName+1) + `") = 3`:                           {"t 812"},
		`812 1.0 execve("/a", [` + strings.Repeat(`"/b", `, 50) + `], []) = 0`:                     append([]string{"t 812", "f /a"}, slices.Repeat([]string{"f /b"}, mostLinks-2)...),
		`812 1.0 read(4<UDP:[` + strings.Repeat("127.0.0.1:1->", 50) + `127.0.0.1:1]>, "", 1) = 1`: append([]string{"t 812"}, slices.Repeat([]string{"a 127.0.0.1"}, mostLinks-1)...),
	} {
		if got := named(line); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// Links are in order, in the line, and of the line's text.
func FuzzLinks(f *testing.F) {
	f.Add(`812 1.0 sendto(4<UDP:[127.0.0.1:4242->[::1]:53]>, "/x", {inet_addr("10.0.0.1")}) = 1</dev/null<char 1:3>>`)
	f.Add("812 1.0 openat(AT_FDCWD</root>, \"\\\"\x1b\", O_RDONLY) = 3</>")
	samples, err := filepath.Glob("../proof/testdata/*.strace")
	if err != nil || len(samples) == 0 {
		f.Fatal("no samples of traces", err)
	}
	for _, path := range samples {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "->") {
				f.Add(line)
				break
			}
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		links, at := Links([]byte(line)), 0
		if len(links) > mostLinks {
			t.Errorf("%d links", len(links))
		}
		for _, l := range links {
			if l.From < at || l.To <= l.From || l.To > len(line) || l.To-l.From > longestName {
				t.Fatalf("%+v after %d in %q", l, at, line)
			}
			at = l.To
		}
	})
}
