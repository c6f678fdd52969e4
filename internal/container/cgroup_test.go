package container

import (
	"strings"
	"testing"
)

const (
	id1 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	id2 = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	id3 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// TestParse goes through the paths that runtimes make. The claims are written as
// "runtime:id@pod", the innermost first; a weak one ends in "?".
func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ cgroup, want string }{
		"the host":                          {"0::/\n", ""},
		"a login":                           {"0::/user.slice/user-1000.slice/session-3.scope\n", ""},
		"a service":                         {"0::/system.slice/nginx.service\n", ""},
		"a service of a user":               {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service\n", ""},
		"docker, systemd":                   {"0::/system.slice/docker-" + id1 + ".scope\n", "docker:" + id1},
		"docker, cgroupfs":                  {"12:pids:/docker/" + id1 + "\n1:name=systemd:/docker/" + id1 + "\n0::/system.slice/containerd.service\n", "docker:" + id1},
		"docker in a slice":                 {"0::/web.slice/docker-" + id1 + ".scope\n", "docker:" + id1},
		"docker, rootless":                  {"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id1 + ".scope\n", "docker:" + id1},
		"docker in docker":                  {"0::/docker/" + id1 + "/docker/" + id2 + "\n", "docker:" + id2 + " docker:" + id1},
		"runc, a path of systemd, cgroupfs": {"0::/system.slice:docker:" + id1 + "\n", "docker:" + id1},
		"podman, systemd":                   {"0::/machine.slice/libpod-" + id1 + ".scope/container\n", "podman:" + id1},
		"podman, cgroupfs":                  {"0::/libpod_parent/libpod-" + id1 + "\n", "podman:" + id1},
		"podman, split":                     {"0::/system.slice/web.service/libpod-payload-" + id1 + "\n", "podman:" + id1},
		"podman, rootless":                  {"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope/container\n", "podman:" + id1},
		"podman, a pod":                     {"0::/machine.slice/machine-libpod_pod_" + id2 + ".slice/libpod-" + id1 + ".scope\n", "podman:" + id1},
		"podman, a pod, cgroupfs":           {"0::/libpod_parent/" + id2 + "/libpod-" + id1 + "\n", "podman:" + id1},
		"podman's monitor":                  {"0::/machine.slice/libpod-conmon-" + id1 + ".scope\n", ""},
		"kubelet and containerd, systemd": {
			"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0aa7c5a2_1b7a_4f0e_9d5f_1a2b3c4d5e6f.slice/cri-containerd-" + id1 + ".scope\n",
			"containerd:" + id1 + "@0aa7c5a2-1b7a-4f0e-9d5f-1a2b3c4d5e6f",
		},
		"kubelet, cgroupfs, v1": {
			"11:memory:/kubepods/burstable/pod0aa7c5a2-1b7a-4f0e-9d5f-1a2b3c4d5e6f/" + id1 + "\n0::/\n",
			":" + id1 + "@0aa7c5a2-1b7a-4f0e-9d5f-1a2b3c4d5e6f",
		},
		"kubelet and containerd, a path of systemd": {
			"0::/system.slice/containerd.service/kubepods-pod0aa7c5a2.slice:cri-containerd:" + id1 + "\n",
			"containerd:" + id1,
		},
		"kubelet and CRI-O": {
			"0::/kubepods.slice/kubepods-pod0aa7c5a2_1b7a.slice/crio-" + id1 + ".scope/container\n", "cri-o:" + id1 + "@0aa7c5a2-1b7a",
		},
		"kubelet, cgroupfs, and a cgroup of the container's own": {"0::/kubepods/pod0aa7/" + id1 + "/libpod-x\n", ":" + id1 + "@0aa7"},
		"the same, called as podman's pods are":                  {"0::/kubepods/pod0aa7/" + id1 + "/libpod_parent/" + id2 + "/libpod-x\n", ":" + id1 + "@0aa7"},
		"CRI-O's monitor":                                        {"0::/kubepods.slice/kubepods-pod0aa7c5a2_1b7a.slice/crio-conmon-" + id1 + ".scope\n", ""},
		"kind": {
			"0::/docker/" + id1 + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0aa7.slice/cri-containerd-" + id2 + ".scope\n",
			"containerd:" + id2 + "@0aa7 docker:" + id1,
		},
		"another cgroup namespace": {"0::/../../cri-containerd-" + id1 + ".scope\n", "containerd:" + id1},
		"ctr":                      {"0::/default/web\n", "containerd:web?"},
		"LXC":                      {"0::/lxc.payload.mail/system.slice/cron.service\n", "lxc:mail"},
		"LXC, old":                 {"5:cpu:/lxc/mail\n", "lxc:mail"},
		"LXC's monitor":            {"0::/lxc.monitor.mail\n", ""},
		"a user's word for a path": {"0::/machine.slice/machine-..\\x2f..\\x2fetc.scope\n", ""},
		"docker in LXC":            {"0::/lxc.payload.mail/docker/" + id1 + "\n", "docker:" + id1 + " lxc:mail"},
		"nspawn":                   {"0::/machine.slice/machine-deb\\x2d12.scope/payload/init.scope\n", "systemd-nspawn:deb-12?"},
		"nspawn's supervisor":      {"0::/machine.slice/machine-deb.scope/supervisor\n", ""},
		"nspawn, a service":        {"0::/machine.slice/systemd-nspawn@deb.service/payload\n", "systemd-nspawn:deb"},
		"a cgroup that is gone":    {"0::/docker/" + id1 + " (deleted)\n", "docker:" + id1},
		"too long for an id":       {"0::/x/docker/" + id1 + "ff\n", ""},
		"upper case":               {"0::/x/docker/" + strings.ToUpper(id1) + "\n", ""},
		"v1 and v2 agree":          {"2:pids:/docker/" + id1 + "\n0::/docker/" + id1 + "\n", "docker:" + id1},
		"podman in podman, which has v1 alone": {
			"9:name=systemd:/libpod_parent/libpod-" + id1 + "/libpod_parent/libpod-" + id2 + "\n0::/libpod_parent/libpod-" + id1 + "\n",
			"podman:" + id2 + " podman:" + id1,
		},
		"v1 is elsewhere":        {"9:name=systemd:/docker/" + id2 + "/docker/" + id3 + "\n0::/docker/" + id1 + "\n", "docker:" + id1 + " docker:" + id3 + " docker:" + id2},
		"not the pod of another": {"0::/kubepods/pod12/a.scope/../" + "\n", ""},
	} {
		var got []string
		for _, c := range parse(c.cgroup) {
			s := c.runtime + ":" + c.id
			if c.pod != "" {
				s += "@" + c.pod
			}
			if c.weak {
				s += "?"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: got %q, want %q", name, s, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0::/docker/" + id1 + "/docker/" + id2 + "\n")                      // nested
	f.Add("0::/machine.slice/machine-a\\x2.scope\n")                          // half an escape
	f.Add("0::/kubepods-pod.slice/kubepodspod.slice/pod/:::" + id1 + "\n")    // names that are nearly those of pods
	f.Add("0::" + strings.Repeat("/lxc/a", 2000) + "\n1:a\n\n::\n0::/lxc/..") // deep, and lines that lack fields
	f.Fuzz(func(t *testing.T, text string) {
		claims := parse(text)
		if len(claims) > maxClaims {
			t.Errorf("%d claims", len(claims))
		}
		for _, c := range claims {
			if c.id == "" || len(c.id) > maxNameLen || strings.Contains(c.id, "/") || c.id == ".." {
				t.Errorf("claim %+v", c)
			}
		}
	})
}
