package container

import (
	"encoding/json"
	"io/fs"
	"path"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// storage reads what podman and CRI-O leave through github.com/containers/storage: a list of all
// containers with their names and images, and config.json of the runtime specification.
func storage(f *files, c claim) (details, bool) {
	if !isID(c.id) {
		return details{}, false
	}
	for _, dir := range storageDirs(f) {
		for _, driver := range []string{"overlay", "vfs", "btrfs", "zfs"} {
			d, ok := stored(f, path.Join(dir, driver+"-containers"), c)
			if ok {
				return d, true
			}
		}
	}
	return details{}, false
}

// storageDirs returns where the containers may be: graphroot, then runroot (man 5
// containers-storage.conf). Only the latter has config.json of CRI-O.
func storageDirs(f *files) []string {
	if f.owner != 0 {
		return []string{".local/share/containers/storage"}
	}
	dirs := []string{"var/lib/containers/storage", "run/containers/storage"}
	for _, name := range []string{"etc/containers/storage.conf", "usr/share/containers/storage.conf"} {
		b, err := f.read(name, maxFile)
		if err != nil {
			continue
		}
		var conf struct {
			Storage struct{ Graphroot, Runroot string }
		}
		if toml.Unmarshal(b, &conf) == nil {
			for _, dir := range []string{conf.Storage.Runroot, conf.Storage.Graphroot} {
				if dir = strings.TrimPrefix(dir, "/"); dir != "" && dir != dirs[0] && dir != dirs[1] {
					dirs = append([]string{dir}, dirs...)
				}
			}
		}
		break
	}
	return dirs
}

func stored(f *files, dir string, c claim) (d details, known bool) {
	bundle, err := bundleOf(f, dir, c.id)
	if err != nil && !f.has(path.Join(dir, c.id)) {
		return details{}, false
	}
	d.runtime = c.runtime
	if bundle.Annotations["io.container.manager"] == "libpod" {
		d.runtime = Podman
		d.inPod(f, dir, c.path, bundle.Annotations["io.kubernetes.cri-o.SandboxID"])
	}
	d.listed(f, dir, c.id)
	d.annotate(bundle.Annotations)
	return d, true
}

// A bundle is config.json of the runtime specification, as far as it matters here.
type bundle struct {
	Hostname    string
	Annotations map[string]string
}

// bundleOf reads that of a container. The id may stem from a file: it is none that leads elsewhere.
func bundleOf(f *files, dir, id string) (b bundle, err error) {
	if !isID(id) {
		return b, fs.ErrNotExist
	}
	err = f.decode(path.Join(dir, id, "userdata/config.json"), maxFile, &b)
	return b, err
}

// inPod adds the pod of podman's that a container is in: the id from the path of its cgroup, and the name from the container that
// keeps the pod's namespaces, whose host name it is unless somebody chose another. podman's own list of pods is in a database.
func (d *details) inPod(f *files, dir, cgroup, keeper string) {
	names := strings.Split(cgroup, "/")
	for i, name := range names {
		if id := podmansPod(names[max(0, i-1)], name, names[i+1:]); id != "" {
			d.podUID = id
		}
	}
	if keeper == "" {
		return
	}
	if b, err := bundleOf(f, dir, keeper); err == nil {
		d.pod = b.Hostname
	}
	if d.podUID == "" {
		d.podUID = keeper
	}
}

// listed adds what the list of the containers says of one. Those of podman run --rm are in a second
// one, which does not outlive the machine.
func (d *details) listed(f *files, dir, id string) {
	for _, name := range []string{"containers.json", "volatile-containers.json"} {
		var all []struct {
			ID       string
			Names    []string
			Metadata string
		}
		if f.decode(path.Join(dir, name), f.maxList, &all) != nil {
			continue
		}
		for _, one := range all {
			if one.ID != id {
				continue
			}
			if len(one.Names) > 0 {
				d.name = one.Names[0]
			}
			var more struct {
				Image string `json:"image-name"`
			}
			if json.Unmarshal([]byte(one.Metadata), &more) == nil {
				d.image = more.Image
			}
			return
		}
	}
}
