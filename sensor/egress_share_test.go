package sensor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"culprit/internal/pattern"
	"culprit/internal/testkit"
)

// Nobody reads. A flood out of one namespace fills half of the ring, and then has a thousand packets per second: a packet of another
// one finds room. All go out, and who lost how many is told.
func TestEgressShare(t *testing.T) {
	t.Parallel()
	f := openEgress(t, 2048, badzone)
	const record = egrPacket + 2048 + 8 // with its header, see ringbuf_record_size in kernel/bpf/ringbuf.c
	const fits = packetsSize / ((record + 7) &^ 7)
	flood := func(packets uint32) {
		t.Helper()
		data := append(make([]byte, 12), append([]byte{0x08, 0x00}, ipv4("192.0.2.1", 0, udp(53, "BADZONE"))...)...)
		if result, err := f.egress.wants.prog.Run(&ebpf.RunOptions{Data: data, Repeat: packets}); err != nil || result != 1 {
			t.Fatalf("the program says %d, %v", result, err)
		}
	}
	flood(2 * fits)
	kept := f.egress.reader.AvailableBytes() / record
	lost := f.Lost()
	if len(lost) != 1 || lost[0].From == (From{}) || int(lost[0].Count)+kept != 2*fits {
		t.Errorf("of %d packets %d wait, and lost are %+v", 2*fits, kept, lost)
	}
	if kept < fits/2 || kept > fits*9/10 {
		t.Errorf("%d packets of the flood wait, in a ring for %d", kept, fits)
	}
	if again := f.Lost(); again != nil {
		t.Errorf("%+v is told once more", again)
	}
	for range 3 {
		n := testkit.NewNet(t)
		before := f.egress.reader.AvailableBytes()
		n.Do(func() { flood(1) })
		if f.egress.reader.AvailableBytes() == before {
			t.Error("another namespace's packet found no room")
		}
		flood(fits)
	}
	if more := f.Lost(); len(more) != 1 || more[0].From != lost[0].From {
		t.Errorf("lost are %+v, and before %+v", more, lost)
	}
}

// However many cgroups send, they have one bucket if one around them counts as one; and a record says which are around.
func TestEgressOnes(t *testing.T) {
	t.Parallel()
	const text = "TestEgressOnes"
	f := tapped(t, text)
	top := testkit.Cgroup(t, filepath.Join(rootOfV2(t), fmt.Sprint("culprit-ones-", os.Getpid())))
	n := testkit.NewNet(t)
	var cgroups []uint64
	for i := range 6 {
		if i == 3 {
			if err := f.CountAsOne(cgroups[0]); err != nil {
				t.Fatal(err)
			}
		}
		dir := testkit.Cgroup(t, filepath.Join(top, fmt.Sprint(i, "/inside")))
		n.Do(func() { sendIn(t, dir, text) })
		got, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []uint64{inode(t, top), inode(t, filepath.Dir(dir)), inode(t, dir)}
		if cgroups = got.Cgroups; !slices.Equal(cgroups, want) || got.SocketCgroup != want[2] {
			t.Errorf("it was sent in %d, in %v: want %v", got.SocketCgroup, cgroups, want)
		}
		if all := f.buckets(); len(all) != min(i+1, 4) || (i >= 3) != slices.Contains(all, From{Cgroup: want[0]}) {
			t.Errorf("after %d cgroups there are the buckets %v", i+1, all)
		}
	}
}

// All network namespaces that a user made for himself have one bucket, if no cgroup tells.
func TestEgressOwner(t *testing.T) {
	t.Parallel()
	const text, user = "TestEgressOwner", 64344
	f := tapped(t, text)
	root := rootOfV2(t)
	for range 2 {
		sendIn(t, root, text, "setpriv", "--reuid", fmt.Sprint(user), "--clear-groups", "unshare", "--user", "--map-root-user", "--net", "sh", "-c",
			`ip link set lo up && exec "$@"`, "sh")
		got, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all, want := f.buckets(), (From{Owner: user}); !slices.Equal(all, []From{want}) || got.From() != want {
			t.Errorf("the buckets are %v, and it is of %v", all, got.From())
		}
	}
}

// tapped sees what has a text, whoever sends it.
func tapped(t *testing.T, text string) *OtherPackets {
	t.Helper()
	want := badzone
	want.Pattern = must(pattern.String(text))
	f := openEgress(t, 2048, want)
	if err := f.egress.attach(); err != nil {
		t.Fatal(err)
	}
	return f
}

// sendIn sends a text in a cgroup, by a program that others may start.
func sendIn(t *testing.T, cgroup, text string, start ...string) {
	t.Helper()
	send := "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'" + text + "', ('127.0.0.1', 53))"
	args := append([]string{"-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, cgroup}, append(start, "python3", "-I", "-S", "-c", send)...)
	if out, err := exec.Command("sh", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// buckets returns whose there are.
func (f *OtherPackets) buckets() (all []From) {
	var from From
	var value [bucketSize / 8]uint64
	for entries := f.egress.buckets.Iterate(); entries.Next(&from, &value); {
		all = append(all, from)
	}
	return all
}

// rootOfV2 returns where cgroup v2 is mounted.
func rootOfV2(t testing.TB) string {
	t.Helper()
	roots := testkit.CgroupRoots(t)
	at := slices.IndexFunc(roots, isV2)
	if at < 0 {
		t.Skip("cgroup v2 is not mounted")
	}
	return roots[at]
}

func isV2(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

func inode(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// What the buckets do not say is nobody's; a bucket that was forgotten begins again.
func TestLosses(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: fromSize, ValueSize: bucketSize, MaxEntries: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var l losses
	web, mail := From{Cgroup: 77}, From{Netns: 4026531999}
	for _, tt := range []struct {
		all, web, mail uint64
		want           []Lost
	}{
		{0, 0, 0, nil},
		{10, 7, 0, []Lost{{web, 7}, {From{}, 3}}},
		{10, 7, 0, nil},
		{15, 7, 5, []Lost{{mail, 5}}},
		{17, 2, 5, []Lost{{web, 2}}},
		{18, 5, 5, []Lost{{web, 1}}}, // two are not in the sum yet
		{20, 5, 5, []Lost{{web, 2}}},
	} {
		for from, n := range map[From]uint64{web: tt.web, mail: tt.mail} {
			if err := m.Put(from, [bucketSize / 8]uint64{1, n}); err != nil {
				t.Fatal(err)
			}
		}
		got := l.since(m, tt.all)
		if len(got) != len(tt.want) {
			t.Fatalf("of %d lost are %+v, want %+v", tt.all, got, tt.want)
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("of %d lost are %+v, want %+v", tt.all, got, tt.want)
			}
		}
	}
}
