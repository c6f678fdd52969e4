package strace

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"culprit/internal/event"
	"culprit/internal/redact"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// theHeader is a header with every possible line.
func theHeader() Header {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	process := event.Process{
		PID: 812, EntityID: "812-4711", Start: at.Add(-time.Minute), Name: "dig",
		Executable: "/usr/bin/dig", CommandLine: "dig -k secret\n# ended: forged \x1b[31m", WorkingDirectory: "/home/web1\t",
		Parent: &event.Process{PID: 700, CommandLine: "sh -c secret", LeftOut: 2},
	}
	return Header{
		Trace: &event.Trace{
			Event: event.Meta{ID: "01TRACE"}, User: event.User{ID: "1001", Name: "web1"}, Process: process,
			Place: event.Place{Container: &event.Container{ID: strings.Repeat("c0", 32)}},
			Culprit: event.TraceDetail{
				Capture: event.Reference{ID: "01CAPTURE"}, FoundBy: event.FoundGate,
				Command: Program{}.Command(Options{Strings: 512, Syscalls: "%network,execve"}, 812),
			},
		},
		Hit: &event.Hit{
			Timestamp: at, Event: event.Meta{ID: "01HIT"}, Rule: event.Rule{Name: "badzone"},
			Network:     event.Network{Transport: "udp"},
			Source:      event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 40000},
			Destination: event.Endpoint{IP: netip.MustParseAddr("127.0.0.53"), Port: 53},
			DNS:         &event.DNS{ID: "4711", Question: event.Question{Name: "x.badzone.test", Type: "A"}},
			Process:     &process,
		},
		Origin: "socket: process 812 dig -k secret holds the packet's socket",
	}
}

// theLookBack is a header of a look-back.
func theLookBack() Header {
	h := theHeader()
	h.LookBack = []string{"not by strace", "3 calls, complete since yesterday"}
	return h
}

func TestHeader(t *testing.T) {
	t.Parallel()
	h := theHeader()
	golden(t, "header.txt", h.Append(nil))
	golden(t, "header-masked.txt", masked(t, h.Append(nil)))
	golden(t, "header-look-back.txt", theLookBack().Append(nil))
	h.Hit.Process, h.Hit.DNS = nil, nil
	golden(t, "header-unlinked.txt", h.Append(nil))
	h.Hit, h.Trace.Container, h.Trace.Process.Parent = nil, nil, nil
	golden(t, "header-by-hand.txt", h.Append(nil))
}

// theFooter is a footer with every possible line.
func theFooter() Footer {
	code := 137
	return Footer{
		Executable: "/usr/bin/curl", CommandLine: "curl -u secret\n", Ended: "the process ended with status 137",
		Dropped: 4711, ExitCode: &code,
	}
}

// theSent is what the kernel saw of the sender of a packet.
func theSent() *event.Hit {
	h := theHeader().Hit
	h.Network.Type = "ipv4"
	h.Culprit.Sent = &event.Sent{Timestamp: h.Timestamp, TID: 813, Syscall: "sendto"}
	return h
}

func TestAppendSent(t *testing.T) {
	t.Parallel()
	h := theSent()
	text := AppendSent(nil, h, []string{"0x3", "0x7ffe4267e090", "0x20", "0x4000", "0x0", "0x0"}, false)
	h.Culprit.Sent.Syscall = "io_uring_enter"
	text = AppendSent(text, h, []string{"0x4", "0x1", "0x1", "0x1", "0x0", "0x8"}, false)
	golden(t, "header-sent.txt", AppendSent(text, h, nil, true))
}

func TestFooter(t *testing.T) {
	t.Parallel()
	golden(t, "footer.txt", theFooter().Append(nil))
	golden(t, "footer-masked.txt", masked(t, theFooter().Append(nil)))
	golden(t, "footer-short.txt", Footer{Ended: "strace ended"}.Append(nil))
	golden(t, "footer-partial.txt", AppendPartial([]byte("812 1.1 write(1, \"cut off"), "culprit was killed"))
}

// masked masks everything in a text that may be masked.
func masked(t *testing.T, text []byte) []byte {
	t.Helper()
	p, wrong := redact.Compile([]string{"."})
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	var out bytes.Buffer
	m := p.Masker(out.Write, Spare)
	m.Write(text)
	m.Close()
	return out.Bytes()
}

// Every key has a name of its own, can be read back, and is in the golden files.
func TestKeys(t *testing.T) {
	t.Parallel()
	all := string(theFooter().Append(AppendSent(theLookBack().Append(theHeader().Append(nil)), theSent(), nil, false)))
	names := map[string]bool{}
	for i, k := range keys {
		if k.name == "" || names[k.name] || strings.Contains(k.name, keyEnd) {
			t.Errorf("key %d is called %q", i, k.name)
		}
		names[k.name] = true
		line := commentMark + k.name + keyEnd
		if !strings.Contains("\n"+all, "\n"+line) {
			t.Errorf("the golden files show no %q", k.name)
		}
		want := len(line)
		if k.ours {
			want += len("value")
		}
		if got := Spare([]byte(line + "value")); got != want {
			t.Errorf("%svalue: %d bytes are not masked, want %d", line, got, want)
		}
	}
}

func TestSpare(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`812   1700000000.123456 close(3) = 0`: `812   1700000000.123456 `,
		`# hit: x: y`:                          `# hit: x: y`,
		`# command line: x: y`:                 `# command line: `,
		`# unheard of: x: y`:                   `# unheard of: `,
		`# no key`:                             `# `,
		` > /usr/lib/libc.so.6(x+0x1) [0x1]`:   ``,
		`812 1700000000.1`:                     ``,
		``:                                     ``,
	} {
		if got := line[:Spare([]byte(line))]; got != want {
			t.Errorf("of %q %q is never masked, want %q", line, got, want)
		}
	}
}

func FuzzSpare(f *testing.F) {
	f.Add([]byte("812 1.1 close(3) = 0"))
	f.Add([]byte("# command line: x"))
	f.Add([]byte("# : "))
	f.Fuzz(func(t *testing.T, line []byte) {
		if n := Spare(line); n < 0 || n > len(line) {
			t.Errorf("%q: %d", line, n)
		}
		if _, _, text := ParseLine(line); text != nil && IsComment(line) {
			t.Errorf("%q is a comment and a line of strace", line)
		}
	})
}
