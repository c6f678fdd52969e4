package container

import (
	"path"
	"strings"
)

// lxc asks for the directory of a container of LXC, LXD or Incus, whose id is its name.
func lxc(f *files, c claim) (details, bool) {
	dirs := []string{"var/lib/lxc", "var/lib/incus/containers", "var/lib/lxd/containers", "var/snap/lxd/common/lxd/containers"}
	if f.owner != 0 {
		dirs = []string{".local/share/lxc"}
	}
	for _, dir := range dirs {
		if f.has(path.Join(dir, c.id)) {
			return details{runtime: LXC, name: c.id}, true
		}
	}
	return details{}, false
}

// nspawn reads what systemd-machined leaves of a machine that is registered with it: lines of
// "KEY=value" (src/machine/machine.c of systemd). Virtual machines are there, too.
func nspawn(f *files, c claim) (details, bool) {
	if f.owner != 0 {
		return details{}, false
	}
	b, err := f.read(path.Join("run/systemd/machines", c.id), maxFile)
	if err != nil {
		return details{}, false
	}
	d := details{runtime: Nspawn, name: c.id}
	isContainer := false
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "CLASS":
			isContainer = value == "container"
		case "ROOT":
			d.image = value
		}
	}
	return d, isContainer
}
