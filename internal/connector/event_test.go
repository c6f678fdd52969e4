package connector

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Golden bytes: parts of datagrams as a little-endian kernel sends them.
const (
	header   = "4c000000" + "0300" + "0000" + "00000000" + "00000000"              // nlmsghdr
	message0 = "01000000" + "01000000" + "2a000000" + "00000000" + "2800" + "0000" // cn_msg
	stamp    = "01000000" + "0068e5cf8b010000"                                     // cpu, timestamp: 1700000000000

	forkGolden   = header + message0 + "01000000" + stamp + "0b000000" + "0a000000" + "14000000" + "14000000" + "0000000000000000"
	threadGolden = header + message0 + "01000000" + stamp + "0b000000" + "0a000000" + "15000000" + "14000000" + "0000000000000000"
	execGolden   = header + message0 + "02000000" + stamp + "14000000" + "14000000" + "00000000000000000000000000000000"
	uidGolden    = header + message0 + "04000000" + stamp + "15000000" + "14000000" + "92100000" + "00000000" + "0000000000000000"
	exitGolden   = header + message0 + "00000080" + stamp + "14000000" + "14000000" + "00030000" + "11000000" + "0a000000" + "0a000000"
	exitThread   = header + message0 + "00000080" + stamp + "15000000" + "14000000" + "00030000" + "11000000" + "0a000000" + "0a000000"
	commGolden   = header + message0 + "00020000" + stamp + "14000000" + "14000000" + "74727565000000000000000000000000"
	ackGolden    = header + "01000000" + "01000000" + "00000000" + "08000000" + "2800" + "0000" +
		"00000000" + stamp + "01000000" + "0000000000000000000000000000000000000000"
)

func bytes(t testing.TB, s string) []byte {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the golden bytes are those of a little-endian machine")
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	t.Parallel()
	const when = 1700000000000 * time.Nanosecond
	fork := Event{Kind: Fork, PID: 20, Parent: 10, Time: when}
	exec := Event{Kind: Exec, PID: 20, Time: when}
	uid := Event{Kind: UID, PID: 20, RUID: 4242, Time: when}
	exit := Event{Kind: Exit, PID: 20, ExitCode: 3 << 8, Time: when}
	other := strings.Replace(forkGolden, message0, "03000000"+message0[8:], 1)
	long := strings.Replace(forkGolden, message0, strings.Replace(message0, "2800", "2900", 1), 1)
	short := strings.Replace(forkGolden, message0, strings.Replace(message0, "2800", "1c00", 1), 1)
	tests := []struct {
		name string
		in   string
		want []Event
	}{
		{"fork", forkGolden, []Event{fork}},
		{"exec", execGolden, []Event{exec}},
		{"uid", uidGolden, []Event{uid}},
		{"exit", exitGolden, []Event{exit}},
		{"many in one datagram", forkGolden + commGolden + execGolden + threadGolden + uidGolden + exitGolden, []Event{fork, exec, uid, exit}},
		{"new thread", threadGolden, nil},
		{"end of a thread", exitThread, nil},
		{"other kind", commGolden, nil},
		{"acknowledgement", ackGolden, nil},
		{"other connector", other + execGolden, []Event{exec}},
		{"exit as of Linux 4.17, without parent", "44000000" + header[8:] + strings.Replace(message0, "2800", "2000", 1) + exitGolden[len(header+message0):136], []Event{exit}},
		{"longer than its message", long + execGolden, []Event{exec}},
		{"shorter than its kind", short + execGolden, []Event{exec}},
		{"cut off", forkGolden + execGolden[:150], []Event{fork}},
		{"length too small", forkGolden + "0f000000" + execGolden[8:], []Event{fork}},
		{"empty", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, appendEvents(nil, bytes(t, tt.in))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAcknowledges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in     string
		number uint32
		errno  unix.Errno
		ok     bool
	}{
		{ackGolden, 7, unix.EPERM, true},
		{ackGolden, 8, 0, false},
		{forkGolden, 1<<32 - 1, 0, false},
	} {
		for m := range messages(bytes(t, tt.in)) {
			if errno, ok := m.acknowledges(tt.number); errno != tt.errno || ok != tt.ok {
				t.Errorf("message %x acknowledges %d: %v, %t", m, tt.number, errno, ok)
			}
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	want := "28000000" + "0300" + "0000" + "00000000" + "00000000" +
		"01000000" + "01000000" + "00000000" + "07000000" + "0400" + "0000" + "01000000"
	if got := hex.EncodeToString(encode(7, bytes(t, "01000000"))); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{forkGolden, execGolden + uidGolden, exitGolden, commGolden, ackGolden} {
		f.Add(bytes(f, s))
	}
	for _, s := range []string{
		threadGolden + exitThread, // threads are no events
		strings.Replace(forkGolden, message0, "03000000"+message0[8:], 1) + forkGolden,         // of another connector
		strings.Replace(forkGolden, message0, strings.Replace(message0, "2800", "2900", 1), 1), // an event longer than its message
		"0f" + forkGolden[2:], "ff" + forkGolden[2:], // a message shorter than its header, one longer than the datagram
	} {
		f.Add(bytes(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for m := range messages(b) {
			m.acknowledges(7)
		}
		events := appendEvents(nil, b)
		if len(events)*(headerLen+messageLen+eventLen+8) > len(b) {
			t.Errorf("%d events in %d bytes", len(events), len(b))
		}
		for _, e := range events {
			if e.Kind.String() == "unknown" {
				t.Errorf("decoded %+v", e)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	in := bytes(b, forkGolden)
	var events []Event
	b.ReportAllocs()
	for b.Loop() {
		events = appendEvents(events[:0], in)
	}
}
