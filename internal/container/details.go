package container

import (
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// details is what the files of a runtime say of a container.
type details struct {
	runtime, name, image   string
	pod, podUID, namespace string
	kubernetes             bool
}

// A source tells what is known of a container. It reports whether a runtime knows it.
type source func(claim) (details, bool)

// A runtime looks for a container in the files of the host, or of a user's home. It reports whether it
// is there.
type runtime func(*files, claim) (details, bool)

// runtimesOf returns who may know a container.
func runtimesOf(name string) []runtime {
	switch name {
	case Docker:
		return []runtime{docker}
	case Podman, CRIO:
		return []runtime{storage}
	case Containerd:
		return []runtime{containerd}
	case LXC:
		return []runtime{lxc}
	case Nspawn:
		return []runtime{nspawn}
	}
	return []runtime{docker, containerd, storage} // with cgroupfs, their paths are alike
}

// details asks the files of the runtime that may have made the container. A container of a user's own
// runtime has its files in the user's home.
func (c *Containers) details(of claim) (details, bool) {
	if uid, ok := userOf(of.path); ok {
		return c.ofUser(uid, of)
	}
	for _, root := range c.roots {
		if d, ok := ask(root, 0, of); ok {
			return d, true
		}
	}
	return details{}, false
}

func ask(dir string, owner uint32, of claim) (details, bool) {
	f, err := openFiles(dir, owner)
	if err != nil {
		return details{}, false
	}
	defer f.close()
	return f.ask(of)
}

func (f *files) ask(of claim) (details, bool) {
	for _, runtime := range runtimesOf(of.runtime) {
		if d, ok := runtime(f, of); ok {
			return d, true
		}
	}
	return details{}, false
}

// userOf returns whose systemd made the path of a cgroup. Only root and systemd can make a path that
// begins so.
func userOf(path string) (uid uint32, ok bool) {
	rest, ok := strings.CutPrefix(path, "/user.slice/user-")
	digits, _, found := strings.Cut(rest, ".slice/")
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && found && err == nil && n != 0
}

// ofUser asks the files of a user, who can only make up containers of the own processes with them.
func (c *Containers) ofUser(uid uint32, of claim) (details, bool) {
	home := c.home(uid)
	if home == "" {
		return details{}, false
	}
	for _, root := range c.roots {
		if d, ok := ask(filepath.Join(root, home), uid, of); ok {
			return d, true
		}
	}
	return details{}, false
}

func homeOf(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return ""
	}
	return u.HomeDir
}

// annotate sets what the annotations or labels say that Kubernetes' runtimes set.
func (d *details) annotate(a map[string]string) {
	first := func(keys ...string) string {
		for _, k := range keys {
			if a[k] != "" {
				return a[k]
			}
		}
		return ""
	}
	set := func(to *string, keys ...string) {
		if v := first(keys...); v != "" {
			*to = v
		}
	}
	set(&d.name, "io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name")
	set(&d.image, "io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName")
	set(&d.pod, "io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
	set(&d.podUID, "io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid")
	set(&d.namespace, "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
	d.kubernetes = d.kubernetes || d.namespace != ""
}
