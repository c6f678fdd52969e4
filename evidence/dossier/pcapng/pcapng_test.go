package pcapng

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

	"culprit/internal/event"
)

var when = time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)

// aHit is a DNS query over UDP, IPv4 or IPv6 as the addresses say.
func aHit(t testing.TB, from, to, name string) event.Hit {
	t.Helper()
	src, dst := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	query, err := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4660, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	var ip gopacket.SerializableLayer
	network := event.Network{Transport: "udp", Type: "ipv4", Bytes: 28 + len(query)}
	if src.Addr().Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		udp.SetNetworkLayerForChecksum(v4)
		ip = v4
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		udp.SetNetworkLayerForChecksum(v6)
		ip = v6
		network.Type, network.Bytes = "ipv6", 48+len(query)
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(query)); err != nil {
		t.Fatal(err)
	}
	return event.Hit{
		Timestamp: when, Event: event.Meta{ID: "01HIT"}, Rule: event.Rule{Name: "badzone"},
		User: &event.User{ID: "4242", Name: "web1"}, Network: network,
		Process: &event.Process{PID: 812, CommandLine: "php cron.php", Parent: &event.Process{PID: 811, CommandLine: "sh -c cron"}},
		Culprit: event.HitDetail{Count: 1, Origin: event.Origin{Grade: event.GradeSocket}},
		Packet:  b.Bytes(),
	}
}

func each(hits ...event.Hit) iter.Seq2[event.Hit, error] {
	return func(yield func(event.Hit, error) bool) {
		for _, h := range hits {
			if !yield(h, nil) {
				return
			}
		}
	}
}

// plain comments on a hit without a proof.
func plain(h *event.Hit) string { return Comment(h, nil, "") }

// run runs a tool of Wireshark; in CI it must be there.
func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: install tshark", err)
		}
		t.Skipf("%v: install tshark", err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8", "HOME="+t.TempDir())
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", tool, err, &stderr)
	}
	return string(out)
}

// file writes hits to a file.
func file(t *testing.T, comment func(*event.Hit) string, hits ...event.Hit) (string, Summary) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "packets.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := Write(f, each(hits...), comment, Info{Version: "1.2.3", Kernel: "Linux 6.18", Comment: "capture 01C"})
	if err != nil {
		t.Fatal(err)
	}
	return f.Name(), sum
}

// packet is what tshark says of one.
type packet struct {
	Source struct {
		Layers map[string][]string `json:"layers"`
	} `json:"_source"`
}

// tshark reads fields of every packet in a file.
func tshark(t *testing.T, path string, fields ...string) (rows [][]string) {
	t.Helper()
	args := []string{"-n", "-r", path, "-T", "json"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	var packets []packet
	if err := json.Unmarshal([]byte(run(t, "tshark", args...)), &packets); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		var row []string
		for _, f := range fields {
			row = append(row, strings.Join(p.Source.Layers[f], "|"))
		}
		rows = append(rows, row)
	}
	return rows
}

// tshark finds in the file what was put into it.
func TestTshark(t *testing.T) {
	t.Parallel()
	v4 := aHit(t, "192.0.2.1:42392", "192.0.2.53:53", "x.badzone.test")
	v6 := aHit(t, "[2001:db8::1]:5000", "[2001:db8::53]:53", "y.badzone.test")
	v6.Timestamp = when.Add(time.Second)
	cutOff := aHit(t, "192.0.2.1:42393", "192.0.2.53:53", "z.badzone.test")
	cutOff.Packet, cutOff.Culprit.Truncated = cutOff.Packet[:40], true
	lies := aHit(t, "192.0.2.1:42394", "192.0.2.53:53", "w.badzone.test")
	lies.Network.Bytes = 0
	gone := v4
	gone.Packet = nil
	proof := &event.Proof{File: event.File{Path: "/e/traces/812.strace"}, Culprit: event.ProofDetail{TID: 813, Syscall: "sendto", Line: 214}}
	path, sum := file(t, func(h *event.Hit) string { return Comment(h, proof, "") }, v4, v6, gone, cutOff, lies)
	if want := (Summary{Packets: 4, NoBytes: 1}); sum != want {
		t.Errorf("got %+v, want %+v", sum, want)
	}
	got := tshark(t, path, "frame.time_epoch", "frame.interface_name", "frame.cap_len", "frame.len", "ip.dst", "ipv6.dst", "udp.srcport", "dns.qry.name", "_ws.malformed")
	want := [][]string{
		{"1767323045.123456789", "nflog", "60", "60", "192.0.2.53", "", "42392", "x.badzone.test", ""},
		{"1767323046.123456789", "nflog", "80", "80", "", "2001:db8::53", "5000", "y.badzone.test", ""},
		{"1767323045.123456789", "nflog", "40", "60", "192.0.2.53", "", "42393", "", ""},
		{"1767323045.123456789", "nflog", "60", "60", "192.0.2.53", "", "42394", "w.badzone.test", ""},
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	wantComment := strings.Join([]string{
		"hit: 01HIT",
		"rule: badzone",
		"user: web1 (4242)",
		"process: 812 php cron.php (it held the packet's socket)",
		"started by: 811 sh -c cron",
		"trace: /e/traces/812.strace",
		"proof: line 214: sendto of thread 813 sent this packet",
	}, "\n")
	comments := tshark(t, path, "frame.comment")
	if got := comments[0][0]; got != wantComment {
		t.Errorf("got %q\nwant %q", got, wantComment)
	}
	if got := comments[2][0]; got != wantComment+"\ncut: only the first 40 bytes were logged" {
		t.Errorf("got %q", got)
	}
}

// capinfos knows the file for what it is.
func TestCapinfos(t *testing.T) {
	t.Parallel()
	path, _ := file(t, plain, aHit(t, "192.0.2.1:1", "192.0.2.53:53", "x.test"))
	got := run(t, "capinfos", "-M", path)
	for _, want := range []string{
		"pcapng", "Number of packets:   1\n", "nanoseconds (9)",
		"culprit 1.2.3", "Linux 6.18", "capture 01C", "Name = nflog", "Description = packets sent by this machine",
		"Encapsulation = Raw IP (7",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// A file without packets is a valid one.
func TestNoHits(t *testing.T) {
	t.Parallel()
	path, sum := file(t, plain)
	if sum != (Summary{}) {
		t.Errorf("got %+v", sum)
	}
	if got := run(t, "tshark", "-r", path); got != "" {
		t.Errorf("tshark: %q", got)
	}
	if got := run(t, "capinfos", "-M", path); !strings.Contains(got, "Number of packets:   0\n") {
		t.Errorf("capinfos: %s", got)
	}
}

// What others wrote changes neither the file nor the lines of a comment.
func TestHostile(t *testing.T) {
	t.Parallel()
	h := aHit(t, "192.0.2.1:1", "192.0.2.53:53", strings.Repeat("a", 63)+".test")
	h.Process.CommandLine = "sh\nproof: line 1 of /etc/passwd\x1b[2J\u202e\xff\x00"
	h.Process.Parent.CommandLine = strings.Repeat("é", 50_000)
	long := aHit(t, "192.0.2.1:2", "192.0.2.53:53", "x.test")
	path, _ := file(t, func(h *event.Hit) string {
		if h.Packet[21] == 2 {
			return strings.Repeat("é", 100_000)
		}
		return plain(h)
	}, h, long)
	comments := tshark(t, path, "frame.comment")
	if len(comments) != 2 {
		t.Fatalf("got %d packets", len(comments))
	}
	lines := strings.Split(comments[0][0], "\n")
	if want := `process: 812 sh\nproof: line 1 of /etc/passwd\x1b[2J\u202e\xff\x00 (it held the packet's socket)`; lines[3] != want {
		t.Errorf("got %q\nwant %q", lines[3], want)
	}
	if got := len(comments[0][0]); got > 2*maxValue {
		t.Errorf("a comment of %d bytes", got)
	}
	if got := comments[1][0]; len(got) > maxComment+3 || strings.ToValidUTF8(got, "?") != got || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes: %.20q", len(got), got)
	}
}

func TestComment(t *testing.T) {
	t.Parallel()
	base := func() *event.Hit {
		return &event.Hit{Event: event.Meta{ID: "01H"}, Rule: event.Rule{Name: "r"}, Culprit: event.HitDetail{Count: 1}}
	}
	for name, c := range map[string]struct {
		change func(*event.Hit)
		proof  *event.Proof
		trace  string
		want   []string
	}{
		"nobody": {
			func(h *event.Hit) {
				h.Culprit.Origin = event.Origin{Grade: event.GradeNone, Reason: &event.Unattributed{Code: event.UnattributedClosed}}
			}, nil, "",
			[]string{"user: unknown", "process: not known for sure: the socket was closed already"},
		},
		"listed": {
			func(h *event.Hit) {
				h.Culprit.Listed = &event.Listed{File: "/lists/feed.txt", Line: 7}
				h.Threat = event.NewThreat(*h.Culprit.Listed, "evil.example", "C2\nproof: none")
			}, nil, "",
			[]string{`listed: feed.txt:7 evil.example # C2\nproof: none`, "user: unknown"},
		},
		"candidates": {
			func(h *event.Hit) {
				h.Culprit.Origin = event.Origin{Grade: event.GradeCandidates, Reason: &event.Unattributed{Code: "gone"}, Processes: []event.Process{{PID: 1, Name: "a"}, {PID: 2, Name: "b"}}, More: 3}
			}, nil, "",
			[]string{"user: unknown", "candidate: 1 a", "candidate: 2 b", "candidates: and 3 more", "process: not known for sure: gone"},
		},
		"shared socket": {
			func(h *event.Hit) {
				h.Process = &event.Process{PID: 1, Name: "a"}
				h.Culprit.Origin = event.Origin{Grade: event.GradeSocket, Processes: []event.Process{{PID: 2, Name: "b"}}}
			}, nil, "",
			[]string{"user: unknown", "process: 1 a (it held the packet's socket)", "process: 2 b (it held the packet's socket)"},
		},
		"proof of another than the holder": {
			func(h *event.Hit) {
				h.Process = &event.Process{PID: 1, Name: "a"}
				h.Culprit.Origin = event.Origin{Grade: event.GradeProof, Processes: []event.Process{{PID: 2, Name: "b"}}}
			}, nil, "",
			[]string{"user: unknown", "process: 1 a (it sent the packet)", "process: 2 b (it held the packet's socket)"},
		},
		"seen by the kernel": {
			func(h *event.Hit) {
				h.User, h.Process = &event.User{ID: "0", Name: "root"}, &event.Process{PID: 1, Name: "a"}
				h.Culprit.Origin = event.Origin{Grade: event.GradeKernel}
				h.Culprit.Sent = &event.Sent{TID: 5, Syscall: "sendto", User: event.User{ID: "33", Name: "www-data"}}
			},
			&event.Proof{File: event.File{Path: "/a"}, Culprit: event.ProofDetail{TID: 5, Syscall: "sendto", Line: 8, Parts: []event.Line{{Syscall: "sendto", Line: 6}}}}, "",
			[]string{
				"user: root (0)", "process: 1 a (the kernel saw it send the packet)", "sent: the kernel saw thread 5 of www-data (33) in sendto",
				"trace: /a", "proof: lines 6 and 8: sendto of thread 5 sent this packet",
			},
		},
		"proven by the kernel": {
			func(h *event.Hit) {},
			&event.Proof{File: event.File{Path: "/a"}, Culprit: event.ProofDetail{Kernel: true, TID: 5, Syscall: "sendfile", Line: 6}}, "",
			[]string{
				"user: unknown", "trace: /a",
				"proof: line 6: sendfile of thread 5 sent this packet: the kernel saw this call send the packet; its bytes do not show",
			},
		},
		"probable, elsewhere, repeated": {
			func(h *event.Hit) { h.Culprit.Count = 4 },
			&event.Proof{File: event.File{Path: "/a"}, Culprit: event.ProofDetail{Probable: true, TID: 5, Syscall: "write", Line: 6}}, "traces/b.strace",
			[]string{
				"user: unknown", "trace: traces/b.strace",
				"proof: line 6: write of thread 5 probably sent this packet: what both show agrees",
				"repeated: 4 such packets came within a second",
			},
		},
	} {
		h := base()
		c.change(h)
		want := strings.Join(append([]string{"hit: 01H", "rule: r"}, c.want...), "\n")
		if got := Comment(h, c.proof, c.trace); got != want {
			t.Errorf("%s: got %q\nwant %q", name, got, want)
		}
	}
}

// limited is a full disk.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestErrors(t *testing.T) {
	t.Parallel()
	h := aHit(t, "192.0.2.1:1", "192.0.2.53:53", "x.test")
	broken := func(yield func(event.Hit, error) bool) {
		_ = yield(h, nil) && yield(event.Hit{}, errors.New("broken"))
	}
	if sum, err := Write(new(bytes.Buffer), broken, plain, Info{}); err == nil || !strings.Contains(err.Error(), "broken") || sum.Packets != 1 {
		t.Errorf("got %+v, %v", sum, err)
	}
	for _, space := range []int{0, 5000} {
		if _, err := Write(&limited{space}, each(slices.Repeat([]event.Hit{h}, 50)...), plain, Info{}); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%d bytes left: got %v", space, err)
		}
	}
}

// The memory does not grow with the number of hits.
func BenchmarkWrite(b *testing.B) {
	h := aHit(b, "192.0.2.1:1", "192.0.2.53:53", "x.test")
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Write(&limited{1 << 40}, func(yield func(event.Hit, error) bool) {
					for range n {
						if !yield(h, nil) {
							return
						}
					}
				}, plain, Info{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/packet")
		})
	}
}
