package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// What somebody makes inside of a cgroup that root gave him is his, also when it is gone. What root made for others beside it is not.
func TestHolder(t *testing.T) {
	testkit.Root(t)
	const user = 64343
	c := New(proc.Default)
	root, ok := c.cgroups[""]
	if !ok {
		t.Skip("cgroup v2 is not mounted")
	}
	a, b := "libpod-"+strings.Repeat("1a", 32)+".scope", "docker-"+strings.Repeat("1b", 32)+".scope"
	top := fmt.Sprintf("culprit-holder-%d", os.Getpid())
	for _, tt := range []struct {
		path string // "!" before the directory that belongs to the user
		want int    // how many directories lead to the holder; 0: there is none
	}{
		{"plain", 0},
		{"system.slice/web.service/worker", 0},
		{"one/" + a, 3},
		{"one/" + a + "/x/y/z", 3},
		{"nested/" + a + "/" + b, 3},
		{"user/!user@1.service/app/" + b, 3},
		{"in/" + a + "/!x/" + b, 3},
		{"a/b/c/d/e/f/" + a + "/x/y", 8},
		{"a/b/c/d/e/f/g/" + a, 0}, // nobody looks as deep
	} {
		dir := filepath.Join(root, top, strings.ReplaceAll(tt.path, "!", ""))
		testkit.Cgroup(t, dir)
		if before, own, is := strings.Cut(tt.path, "!"); is {
			first, _, _ := strings.Cut(own, "/")
			if err := os.Chown(filepath.Join(root, top, before, first), user, user); err != nil {
				t.Fatal(err)
			}
		}
		var ids []uint64
		at := root
		for name := range strings.SplitSeq(strings.TrimPrefix(dir, root+"/"), "/") {
			at = filepath.Join(at, name)
			var st unix.Stat_t
			if err := unix.Stat(at, &st); err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, st.Ino); len(ids) == 8 {
				break
			}
		}
		var want uint64
		if tt.want > 0 {
			want = ids[tt.want-1]
		}
		const gone = 1 << 60
		for _, all := range [][]uint64{ids, append(ids, gone)} {
			if got := c.Holder(all); got != want {
				t.Errorf("%s, of %v: %d, want %d", tt.path, all, got, want)
			}
		}
	}
	if got := c.Holder(nil) + c.Holder([]uint64{1 << 60}) + (*Containers)(nil).Holder([]uint64{1}); got != 0 {
		t.Errorf("nobody's cgroups are in %d", got)
	}
}
