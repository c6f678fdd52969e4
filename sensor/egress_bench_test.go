package sensor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/pattern"
	"culprit/internal/testkit"
	"culprit/lists/format"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

// BenchmarkEgress shows what a UDP packet costs its sender with the program attached, as a ratio to what it costs without. It
// goes to a socket that nobody reads. In our own namespace the program sees whose it is, and ends; in another one it looks
// at the port, and for a rule's port at each byte. The two are measured by turns, in the processor's time
// of the thread.
func BenchmarkEgress(b *testing.B) {
	const wants = 20
	var all []Want
	for i := range wants {
		w := badzone
		w.Pattern = must(pattern.String(fmt.Sprintf("badzone%d", i)))
		all = append(all, w)
	}
	f := openEgress(b, 2048, all...)
	n := testkit.NewNet(b)
	for _, where := range []struct {
		name string
		ours bool
		port int
		size int
	}{
		{"ours", true, 53, 50},
		{"another, other port", false, 54, 50},
		{"another, 50 bytes", false, 53, 50},
		{"another, 1200 bytes", false, 53, 1200},
	} {
		b.Run(where.name, func(b *testing.B) {
			var err error
			n.Do(func() {
				f.egress.netns = 1
				if where.ours {
					var st unix.Stat_t
					_ = unix.Stat("/proc/thread-self/ns/net", &st)
					f.egress.netns = uint32(st.Ino)
				}
				if err = f.egress.replace(all, nil); err == nil {
					err = compareSends(b, f.egress, where.port, where.size)
				}
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkEgressLists shows the same for a question that no list has: with no rule for its port, with one pattern, and with lists of one
// name and of a million.
func BenchmarkEgressLists(b *testing.B) {
	names := func(n int) map[string]*set.Set {
		var entries []format.Entry
		for i := range n {
			entries = append(entries, format.Entry{Name: fmt.Sprintf("n%d.feed.example", i), Kind: format.Whole})
		}
		return map[string]*set.Set{"feed": settest.New(b, entries...)}
	}
	f := openEgress(b, 2048)
	n := testkit.NewNet(b)
	other := badzone
	other.Ports = []int{54}
	packet := question("www", "harmless", 53)[28:]
	for _, what := range []struct {
		name  string
		want  Want
		lists Lists
	}{
		{"another port", other, nil},
		{"a pattern", badzone, nil},
		{"1 name", listed("feed", 53), filterOf(b, names(1))},
		{"1M names", listed("feed", 53), filterOf(b, names(1_000_000))},
	} {
		b.Run(what.name, func(b *testing.B) {
			var err error
			n.Do(func() {
				if err = f.egress.replace([]Want{what.want}, what.lists); err == nil {
					err = comparePayloads(b, f.egress, 53, packet)
				}
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkEgressWanted shows what a packet costs that is wanted and finds no room any more, by how deep the cgroup of its socket is: the
// program looks at each cgroup around it.
func BenchmarkEgressWanted(b *testing.B) {
	f := openEgress(b, 2048, badzone)
	root := rootOfV2(b)
	n := testkit.NewNet(b)
	for _, depth := range []int{0, 1, 4, cgroupLevels} {
		b.Run(fmt.Sprint("depth ", depth), func(b *testing.B) {
			dir := root
			for i := range depth {
				dir = testkit.Cgroup(b, filepath.Join(dir, fmt.Sprint("culprit-depth-", os.Getpid(), "-", i)))
			}
			in := func(dir string) {
				if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
					b.Fatal(err)
				}
			}
			in(dir)
			defer in(root)
			var err error
			n.Do(func() { err = comparePayloads(b, f.egress, 53, []byte("BADZONE")) })
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// compareSends sends packets of a size by turns with and without the program.
func compareSends(b *testing.B, e *egress, port, size int) error {
	return comparePayloads(b, e, port, []byte(strings.Repeat("harmless ", size/9+1))[:size])
}

// comparePayloads sends packets by turns with and without the program.
func comparePayloads(b *testing.B, e *egress, port int, payload []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	reader, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0) // that does not read
	if err != nil {
		return err
	}
	defer unix.Close(reader)
	if err := unix.Bind(reader, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 9}}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 9}}); err != nil {
		return err
	}
	const turn = 500
	var spent [2]int64
	sent := 0
	for b.Loop() {
		for with := range 2 {
			if with == 1 {
				if err := e.attach(); err != nil {
					return err
				}
			}
			began := threadTime()
			for range turn {
				if _, err := unix.Write(fd, payload); err != nil {
					return err
				}
			}
			spent[with] += threadTime() - began
			if with == 1 {
				if err := e.tap.Close(); err != nil {
					return err
				}
				e.tap = nil
			}
		}
		sent += turn
	}
	without, with := float64(spent[0])/float64(sent), float64(spent[1])/float64(sent)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(without, "ns/without")
	b.ReportMetric(with-without, "ns/more")
	b.ReportMetric(with/without, "ratio")
	return nil
}

// threadTime is the processor's time that the thread has used, in nanoseconds.
func threadTime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return t.Nano()
}
