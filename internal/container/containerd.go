package container

import "path"

// containerd reads config.json of the runtime specification, which containerd leaves with each task
// under the namespace that the container is in: k8s.io, moby (of Docker), default, …
// Distributions of Kubernetes have a containerd of their own elsewhere.
func containerd(f *files, c claim) (details, bool) {
	if f.owner != 0 {
		return details{}, false
	}
	for _, dir := range []string{"run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd"} {
		tasks := path.Join(dir, "io.containerd.runtime.v2.task")
		namespaces := f.list(tasks)
		if c.weak {
			namespaces = []string{path.Base(path.Dir(c.path))}
		}
		for _, namespace := range namespaces {
			var bundle struct{ Annotations map[string]string }
			if f.decode(path.Join(tasks, namespace, c.id, "config.json"), maxFile, &bundle) != nil {
				continue
			}
			d := details{runtime: Containerd}
			d.annotate(bundle.Annotations)
			if d.name == "" && !isID(c.id) {
				d.name = c.id
			}
			return d, true
		}
	}
	return details{}, false
}
