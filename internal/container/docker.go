package container

import (
	"path"
	"strings"
)

// docker reads config.v2.json of the Docker daemon. If its data-root was moved, daemon.json says where
// to (https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file).
func docker(f *files, c claim) (details, bool) {
	if !isID(c.id) {
		return details{}, false
	}
	dirs := []string{"var/lib/docker", "var/snap/docker/common/var-lib-docker"}
	var daemon struct {
		DataRoot string `json:"data-root"`
	}
	if f.owner != 0 {
		dirs = []string{".local/share/docker"}
	} else if f.decode("etc/docker/daemon.json", maxFile, &daemon) == nil && daemon.DataRoot != "" {
		dirs = append([]string{strings.TrimPrefix(daemon.DataRoot, "/")}, dirs...)
	}
	for _, dir := range dirs {
		// With userns-remap, there is a directory for each UID and GID that root is mapped to.
		for _, name := range f.list(dir) {
			if uid, _, ok := strings.Cut(name, "."); ok && uid != "" && strings.Trim(uid, "0123456789") == "" {
				dirs = append(dirs, path.Join(dir, name))
			}
		}
	}
	for _, dir := range dirs {
		var config struct {
			ID, Name string
			Config   struct {
				Image  string
				Labels map[string]string
			}
		}
		if f.decode(path.Join(dir, "containers", c.id, "config.v2.json"), maxFile, &config) != nil || config.ID != c.id {
			continue
		}
		d := details{runtime: Docker, name: strings.TrimPrefix(config.Name, "/"), image: config.Config.Image}
		d.annotate(config.Config.Labels)
		return d, true
	}
	return details{}, false
}
