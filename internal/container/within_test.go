package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// What only root can have made tells where a process is. A user with cgroups of his own gets neither out of a
// container nor into another one, whatever he calls them and however many he makes.
func TestWithin(t *testing.T) {
	const user = 64341
	a, b := "libpod-"+strings.Repeat("0a", 32)+".scope", "docker-"+strings.Repeat("0b", 32)+".scope"
	idA, idB := a[7:71], b[7:71]
	for _, root := range testkit.CgroupRoots(t) {
		top := fmt.Sprintf("culprit-test-%d", os.Getpid())
		deep := strings.Repeat("docker-"+strings.Repeat("0c", 32)+".scope/", 10)
		for _, tt := range []struct {
			path string // "!" before the directory that belongs to the user, and all below it
			want []string
		}{
			{"plain", nil},
			{"root/" + a, []string{idA}},
			{"nested/" + a + "/" + b, []string{idA, idB}},
			{"!own/" + a, nil},
			{"deleg/!user@1.service/" + b, nil},
			{"inside/" + a + "/!sub/" + b, []string{idA}},
			{"same/" + a + "/!sub/" + a, []string{idA}},
			{"many/" + a + "/!sub/" + deep, []string{idA}},
			{"kubepods/" + idA + "/libpod-x", []string{idA}},
		} {
			dir := filepath.Join(root, top, strings.ReplaceAll(tt.path, "!", ""))
			testkit.Cgroup(t, dir)
			if before, own, is := strings.Cut(tt.path, "!"); is {
				first, _, _ := strings.Cut(own, "/")
				if out, err := exec.Command("chown", "-R", fmt.Sprint(user), filepath.Join(root, top, before, first)).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			cmd := exec.Command("sleep", "60")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			testkit.Enter(t, dir, cmd.Process.Pid)
			got, ok := New(proc.Default).Within(cmd.Process.Pid)
			if !ok || !slices.Equal(got, tt.want) {
				t.Errorf("%s: %s: %v, %v, want %v", root, tt.path, got, ok, tt.want)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if _, ok := New(proc.Default).Within(cmd.Process.Pid); ok {
				t.Error("a process that is gone is somewhere")
			}
		}
	}
}

// A name that any directory could have is one of a container only if root's runtime knows it, whatever its processes
// make inside.
func TestWithinWeak(t *testing.T) {
	testkit.Root(t)
	id := strings.Repeat("0e", 32)
	for path, want := range map[string][]string{
		"/default/web":                             {"web"},
		"/default/web/docker-" + id + ".scope":     {"web", id},
		"/default/web/own/docker-" + id + ".scope": {"web"}, // own is a user's
		"/default/mail":                            nil,
		"/default/web/sub/sub":                     {"web"},
		"/lxc.payload.deb/other":                   {"deb"},
	} {
		n := newNode(t)
		n.write("run/containerd/io.containerd.runtime.v2.task/default/web/config.json", "{}")
		n.cgroup(path, 0)
		if before, _, is := strings.Cut(path, "/own/"); is {
			n.cgroup(before+"/own", 64342)
		}
		n.process(7, path)
		n.write("proc/7/stat", "7 (sh) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 86753091000000")
		if got, ok := n.Within(7); !ok || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", path, got, ok, want)
		}
	}
}

// A process whose first thread has ended is where its others are: /proc shows the first one in no cgroup of v1 any more.
func TestWithinWithoutFirstThread(t *testing.T) {
	id := strings.Repeat("0d", 32)
	for _, root := range testkit.CgroupRoots(t) {
		dir := testkit.Cgroup(t, filepath.Join(root, fmt.Sprintf("culprit-thread-%d/docker-%s.scope", os.Getpid(), id)))
		cmd := exec.Command("python3", "-I", "-S", "-c", `
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(60)).start()
ctypes.CDLL(None).pthread_exit(None)`)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testkit.Enter(t, dir, cmd.Process.Pid)
		deadline := time.Now().Add(30 * time.Second)
		for {
			st, err := proc.Default.Stat(cmd.Process.Pid)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("its first thread does not end: %+v, %v", st, err)
			}
			if st.Ended() && st.Threads > 1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got, ok := New(proc.Default).Within(cmd.Process.Pid); !ok || !slices.Equal(got, []string{id}) {
			t.Errorf("%s: %v, %v", root, got, ok)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func BenchmarkWithin(b *testing.B) {
	c := New(proc.Default)
	for b.Loop() {
		c.Within(os.Getpid())
	}
}
