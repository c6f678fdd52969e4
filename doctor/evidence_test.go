package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/testkit"
)

func TestEvidenceDir(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	dir := t.TempDir()
	make := func(name string, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("good", link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dir  string
		want Status
		say  string
	}{
		{make("good", 0o700, 0), OK, " free"},
		{make("open", 0o755, 0), Warn, "mode 0755"},
		{make("alien", 0o700, nobody), Fail, "UID 65534"},
		{file, Fail, "not a directory"},
		{link, Fail, "symbolic link"},
		{filepath.Join(dir, "new/er"), OK, "can be created"},
		{filepath.Join(file, "below"), Fail, "not a directory"},
	} {
		c := config.Default()
		c.Evidence.Dir = tt.dir
		if got := evidenceDir(t.Context(), &c); got.Status != tt.want || !strings.Contains(got.Found, tt.say) {
			t.Errorf("%s: %+v", tt.dir, got)
		}
	}
}

func TestEvidenceOnOtherFileSystems(t *testing.T) {
	t.Parallel()
	n, dir := testkit.NewNet(t), t.TempDir()
	for _, tt := range []struct {
		flags uintptr
		want  Status
		say   string
	}{
		{0, Warn, "tmpfs"},
		{unix.MS_RDONLY, Fail, "read-only"},
	} {
		n.Do(func() {
			if err := unix.Mount("none", dir, "tmpfs", tt.flags, "mode=700"); err != nil {
				t.Error(err)
				return
			}
			c := config.Default()
			c.Evidence.Dir = dir
			if got := evidenceDir(t.Context(), &c); got.Status != tt.want || !strings.Contains(got.Found, tt.say) {
				t.Errorf("there: %+v", got)
			}
			c.Evidence.Dir = filepath.Join(dir, "new")
			if got := evidenceDir(t.Context(), &c); got.Status != tt.want || !strings.Contains(got.Found, tt.say) {
				t.Errorf("to be made: %+v", got)
			}
		})
	}
}
