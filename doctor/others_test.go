package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestManagers(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if flushing, harmless := findManagers(root); len(flushing)+len(harmless) > 0 {
		t.Errorf("found %q and %q in nothing", flushing, harmless)
	}
	put("etc/ufw/ufw.conf", "# comment\nENABLED=yes\n")
	put("etc/csf/csf.conf", "TESTING = \"1\"\n")
	put("etc/systemd/system/sysinit.target.wants/nftables.service", "")
	put("proc/12/comm", "dockerd\n")
	put("proc/13/comm", "bash\n")
	flushing, harmless := findManagers(root)
	if len(flushing) != 2 || !strings.HasPrefix(flushing[0], "ufw: ") || !strings.HasPrefix(flushing[1], "nftables.service: ") {
		t.Errorf("flushing: %q", flushing)
	}
	if !slices.Equal(harmless, []string{"docker"}) {
		t.Errorf("harmless: %q", harmless)
	}
}
