package container

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// annotated is config.json of the runtime specification, as far as it matters here.
func annotated(of map[string]string) string {
	b, _ := json.Marshal(map[string]any{"ociVersion": "1.1.0", "hostname": "x", "annotations": of})
	return string(b)
}

func stores(id, name, metadata string) string {
	b, _ := json.Marshal([]map[string]any{{"id": id2, "names": []string{"another"}, "metadata": "{}"}, {"id": id, "names": []string{name}, "metadata": metadata}})
	return string(b)
}

// TestRuntimes: what each runtime leaves on a machine gives names.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	testkit.Root(t) // files have to belong to root
	const (
		podUID = "0aa7c5a2-1b7a-4f0e-9d5f-1a2b3c4d5e6f"
		slice  = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0aa7c5a2_1b7a_4f0e_9d5f_1a2b3c4d5e6f.slice"
	)
	containerdPod := annotated(map[string]string{
		"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "cart", "io.kubernetes.cri.image-name": "docker.io/library/cart:3",
		"io.kubernetes.cri.sandbox-name": "shop-7d9f", "io.kubernetes.cri.sandbox-namespace": "web", "io.kubernetes.cri.sandbox-uid": podUID,
	})
	pod := " kubernetes pod web/shop-7d9f " + podUID
	for name, c := range map[string]struct {
		cgroup string
		files  map[string]string
		want   string
	}{
		"docker": {
			"/system.slice/docker-" + id1 + ".scope",
			map[string]string{"var/lib/docker/containers/" + id1 + "/config.v2.json": `{"ID":"` + id1 + `","Name":"/web-1","Config":{"Image":"nginx:1.27","Labels":null}}`},
			"docker web-1 nginx:1.27",
		},
		"docker elsewhere": {
			"/docker/" + id1,
			map[string]string{
				"etc/docker/daemon.json":                           `{"data-root":"/srv/docker"}`,
				"srv/docker/containers/" + id1 + "/config.v2.json": `{"ID":"` + id1 + `","Name":"/web-1","Config":{"Image":"nginx:1.27"}}`,
			},
			"docker web-1 nginx:1.27",
		},
		"docker with userns-remap": {
			"/docker/" + id1,
			map[string]string{"var/lib/docker/100000.100000/containers/" + id1 + "/config.v2.json": `{"ID":"` + id1 + `","Name":"/web-1","Config":{"Image":"nginx:1.27"}}`},
			"docker web-1 nginx:1.27",
		},
		"docker, rootless": {
			"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id1 + ".scope",
			map[string]string{"home/1000/.local/share/docker/containers/" + id1 + "/config.v2.json": `{"ID":"` + id1 + `","Name":"/mine","Config":{"Image":"busybox"}}`},
			"docker mine busybox",
		},
		"docker of Kubernetes": {
			"/kubepods/burstable/pod" + podUID + "/" + id1,
			map[string]string{"var/lib/docker/containers/" + id1 + "/config.v2.json": `{"ID":"` + id1 + `","Name":"/k8s_cart_shop","Config":{"Image":"sha256:12","Labels":{"io.kubernetes.container.name":"cart","io.kubernetes.pod.name":"shop-7d9f","io.kubernetes.pod.namespace":"web","io.kubernetes.pod.uid":"` + podUID + `"}}}`},
			"docker cart sha256:12" + pod,
		},
		"podman": {
			"/machine.slice/libpod-" + id1 + ".scope/container",
			map[string]string{
				"var/lib/containers/storage/overlay-containers/containers.json":                  stores(id1, "web-1", `{"image-name":"docker.io/library/nginx:1.27"}`),
				"var/lib/containers/storage/overlay-containers/" + id1 + "/userdata/config.json": annotated(map[string]string{"io.container.manager": "libpod"}),
			},
			"podman web-1 docker.io/library/nginx:1.27",
		},
		"podman run --rm, in a pod, elsewhere": {
			"/libpod_parent/" + id2 + "/libpod-" + id1,
			map[string]string{
				"etc/containers/storage.conf":                                 "[storage]\ndriver = \"vfs\"\ngraphroot = \"/srv/storage\"\n",
				"srv/storage/vfs-containers/containers.json":                  "[]",
				"srv/storage/vfs-containers/volatile-containers.json":         stores(id1, "job", `{"image-name":"busybox"}`),
				"srv/storage/vfs-containers/" + id1 + "/userdata/config.json": annotated(map[string]string{"io.container.manager": "libpod", "io.kubernetes.cri-o.SandboxID": id2}),
			},
			"podman job busybox pod / " + id2,
		},
		"podman, a pod with a name": {
			"/machine.slice/machine-libpod_pod_" + id3 + ".slice/libpod-" + id1 + ".scope",
			map[string]string{
				"var/lib/containers/storage/overlay-containers/containers.json":                  stores(id1, "cart", `{"image-name":"busybox"}`),
				"var/lib/containers/storage/overlay-containers/" + id1 + "/userdata/config.json": annotated(map[string]string{"io.container.manager": "libpod", "io.kubernetes.cri-o.SandboxID": id2}),
				"var/lib/containers/storage/overlay-containers/" + id2 + "/userdata/config.json": `{"hostname":"shop"}`,
			},
			"podman cart busybox pod /shop " + id3,
		},
		"podman, a pod that leads elsewhere": {
			"/libpod-" + id1,
			map[string]string{
				"var/lib/containers/storage/overlay-containers/" + id1 + "/userdata/config.json": annotated(map[string]string{"io.container.manager": "libpod", "io.kubernetes.cri-o.SandboxID": "../../../../srv"}),
				"srv/userdata/config.json": `{"hostname":"elsewhere"}`,
			},
			"podman   pod / ../../../../srv",
		},
		"podman, rootless": {
			"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope/container",
			map[string]string{
				"home/1000/.local/share/containers/storage/overlay-containers/containers.json":                  stores(id1, "mine", `{"image-name":"busybox"}`),
				"home/1000/.local/share/containers/storage/overlay-containers/" + id1 + "/userdata/config.json": annotated(map[string]string{"io.container.manager": "libpod"}),
			},
			"podman mine busybox",
		},
		"CRI-O": {
			slice + "/crio-" + id1 + ".scope/container",
			map[string]string{
				"var/lib/containers/storage/overlay-containers/containers.json": stores(id1, "k8s_cart_shop-7d9f_web_"+podUID+"_0", `{"image-name":"quay.io/cart:3","pod-name":"k8s_POD"}`),
				"run/containers/storage/overlay-containers/" + id1 + "/userdata/config.json": annotated(map[string]string{
					"io.kubernetes.container.name": "cart", "io.kubernetes.pod.name": "shop-7d9f", "io.kubernetes.pod.namespace": "web",
					"io.kubernetes.pod.uid": podUID, "io.kubernetes.cri-o.ImageName": "quay.io/cart:3",
				}),
			},
			"cri-o cart quay.io/cart:3" + pod,
		},
		"containerd of Kubernetes, systemd": {
			slice + "/cri-containerd-" + id1 + ".scope",
			map[string]string{"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id1 + "/config.json": containerdPod},
			"containerd cart docker.io/library/cart:3" + pod,
		},
		"containerd of Kubernetes, cgroupfs": {
			"/kubepods/besteffort/pod" + podUID + "/" + id1,
			map[string]string{"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id1 + "/config.json": containerdPod},
			"containerd cart docker.io/library/cart:3" + pod,
		},
		"k3s": {
			slice + "/cri-containerd-" + id1 + ".scope",
			map[string]string{"run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/" + id1 + "/config.json": containerdPod},
			"containerd cart docker.io/library/cart:3" + pod,
		},
		"a pod without files": {slice + "/cri-containerd-" + id1 + ".scope", nil, "containerd   kubernetes pod / " + podUID},
		"ctr":                 {"/default/web", map[string]string{"run/containerd/io.containerd.runtime.v2.task/default/web/config.json": "{}"}, "containerd web "},
		"no ctr":              {"/default/web", nil, ""},
		"LXC":                 {"/lxc.payload.mail/init.scope", map[string]string{"var/lib/lxc/mail/config": ""}, "lxc mail "},
		"nspawn": {
			`/machine.slice/machine-deb\x2d12.scope/payload`,
			map[string]string{"run/systemd/machines/deb-12": "# This is private data. Do not parse.\nNAME=deb-12\nSERVICE=systemd-nspawn\nROOT=/var/lib/machines/deb-12\nCLASS=container\n"},
			"systemd-nspawn deb-12 /var/lib/machines/deb-12",
		},
		"a virtual machine": {
			`/machine.slice/machine-qemu\x2d1.scope/libvirt/vcpu0`,
			map[string]string{"run/systemd/machines/qemu-1": "NAME=qemu-1\nSERVICE=libvirt-qemu\nCLASS=vm\n"},
			"",
		},
		"docker in a container of LXC": { // whose files the host does not have
			"/lxc.payload.mail/docker/" + id1, map[string]string{"var/lib/lxc/mail/config": ""}, "docker  ",
		},
	} {
		n := newNode(t)
		n.home = func(uid uint32) string { return fmt.Sprint("/home/", uid) }
		n.cgroup(c.cgroup, 0)
		n.process(7, c.cgroup)
		for file, text := range c.files {
			n.write(file, text)
		}
		if got := describe(n, 7); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// describe writes what is known of a container: runtime, name, image, pod.
func describe(n node, pid int) string {
	at := n.Of(pid)
	c := at.Container
	if c == nil {
		return ""
	}
	image := ""
	if c.Image != nil {
		image = c.Image.Name
	}
	s := c.Runtime + " " + c.Name + " " + image
	if c.Claimed {
		s = "claimed: " + s
	}
	if o := at.Orchestrator; o != nil {
		s += strings.TrimRight(" "+o.Type, " ") + " " + o.Resource.Type + " " + o.Namespace + "/" + o.Resource.Name + " " + o.Resource.ID
	}
	return s
}

// TestForeignFiles: what a user can have written names nobody's container but the user's, and what is no
// plain file or too large is not read.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	n := newNode(t)
	config := `{"ID":"` + id1 + `","Name":"/web-1"}`
	const file = "var/lib/docker/containers/" + id1 + "/config.v2.json"
	n.cgroup("docker/"+id1, 0)
	n.process(1, "/docker/"+id1)
	check := func(what, want string) {
		t.Helper()
		clear(n.known)
		if got := describe(n, 1); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	n.write(file, config)
	check("of root", "docker web-1 ")
	n.write(file, strings.Replace(config, id1, id2, 1))
	check("of another container", "docker  ")
	n.write(file, config+strings.Repeat(" ", maxFile))
	check("too large", "docker  ")
	n.write(file, `{"ID":"`+id1+`","Name":["web-1"]}`)
	check("of another shape", "docker  ")
	n.write(file, config)
	if err := os.Chown(n.path(file), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	check("of a user", "docker  ")
	if err := os.Remove(n.path(file)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(n.path(file), 0o600); err != nil {
		t.Fatal(err)
	}
	check("a pipe", "docker  ")

	// A link in a home leads to no file of root's.
	n.home = func(uint32) string { return "/home" }
	const scope = "/user.slice/user-1000.slice/user@1000.service/docker-" + id2 + ".scope"
	n.process(2, scope)
	n.cgroup("user.slice/user-1000.slice/user@1000.service", 1000)
	n.write("var/lib/docker/containers/"+id2+"/config.v2.json", `{"ID":"`+id2+`","Name":"/db"}`)
	n.write("home/.local/share/x", "")
	if err := os.Symlink(n.path("var/lib/docker"), n.path("home/.local/share/docker")); err != nil {
		t.Fatal(err)
	}
	if got := describe(n, 2); got != "claimed: docker  " {
		t.Errorf("through a link: %q", got)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add(`{"ID":"`+id1+`","Name":"/web-1","Config":{"Image":"a","Labels":{"io.kubernetes.pod.namespace":"web"}}}`, "")
	f.Add(`[{"id":"`+id1+`","names":["x"],"metadata":"{\"image-name\":1}"}]`, "[storage]\ngraphroot = \"//..\"")
	f.Add(`{"annotations":{"io.container.manager":"libpod","nerdctl/name":"`+strings.Repeat(`\u0000`, 300)+`"}}`, "[storage")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, conf string) {
		for _, name := range []string{
			"var/lib/docker/containers/" + id1 + "/config.v2.json", "var/lib/containers/storage/overlay-containers/containers.json",
			"var/lib/containers/storage/overlay-containers/" + id1 + "/userdata/config.json",
			"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id1 + "/config.json", "run/systemd/machines/m",
		} {
			node{t: t, dir: dir}.write(name, text)
		}
		node{t: t, dir: dir}.write("etc/containers/storage.conf", conf)
		for _, c := range []claim{{id: id1}, {id: id1, runtime: Podman}, {id: "m", runtime: Nspawn}} {
			d, _ := ask(dir, uint32(os.Getuid()), c)
			p := place(c, d, false)
			if b, err := json.Marshal(p); err != nil || len(b) > 4096 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		}
	})
}
