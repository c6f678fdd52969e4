package containers

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
	"culprit/test/harness"
)

// dockerd starts Docker's daemon, without networks, and starts a container that runs a script.
func dockerd(t *testing.T, h *harness.Host, tar, name string, uid uint32, script string) {
	t.Helper()
	newDocker(t, h, tar, "--iptables=false", "--ip6tables=false").start(name, "none", uid, script)
}

// docker is Docker's daemon.
type docker struct {
	t    *testing.T
	call func(method, path string, more ...string) (string, error)
	must func(method, path string, more ...string)
}

// newDocker starts it, and gives it an image.
func newDocker(t *testing.T, h *harness.Host, tar string, args ...string) docker {
	t.Helper()
	private(t, h, "/var/lib/docker", "/run/docker")
	const socket = "/run/docker/api.sock"
	daemon := h.StartAs(0, "dockerd", append([]string{
		"--host", "unix://" + socket, "--pidfile", "/run/docker/pid", "--storage-driver", "vfs",
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge=none",
	}, args...)...)
	call := func(method, path string, more ...string) (string, error) {
		return h.Run("curl", append([]string{"-sS", "--fail-with-body", "--unix-socket", socket, "-X", method, "http://docker" + path}, more...)...)
	}
	must := func(method, path string, more ...string) {
		t.Helper()
		if _, err := call(method, path, more...); err != nil {
			t.Fatalf("%v\n%s", err, daemon.Output)
		}
	}
	harness.Eventually(t, "dockerd answers", func() error {
		_, err := call(http.MethodGet, "/_ping")
		return err
	})
	t.Cleanup(func() {
		daemon.Signal(unix.SIGTERM)
		daemon.Wait()
	})
	must(http.MethodPost, "/images/create?fromSrc=-&repo=localhost/busy&tag=1", "-H", "Content-Type: application/x-tar", "--data-binary", "@"+tar)
	return docker{t, call, must}
}

// start starts a container that runs a script.
func (d docker) start(name, network string, uid uint32, script string) {
	d.t.Helper()
	d.t.Cleanup(func() { d.call(http.MethodDelete, "/containers/"+name+"?force=1") })
	d.post("/containers/create?name="+name, map[string]any{
		"Image": image, "User": fmt.Sprint(uid), "Cmd": []string{"/bin/sh", "-c", script}, "HostConfig": map[string]any{"NetworkMode": network},
	})
	d.must(http.MethodPost, "/containers/"+name+"/start")
}

func (d docker) post(path string, body any) {
	d.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	d.must(http.MethodPost, path, "-H", "Content-Type: application/json", "-d", string(text))
}

// containerd starts containerd, and starts a container that runs a script as root, who is the user. The archive is one of
// an image.
func containerd(t *testing.T, h *harness.Host, archive, name string, uid uint32, script string) {
	t.Helper()
	private(t, h, "/var/lib/containerd", "/run/containerd")
	daemon := h.StartAs(0, "containerd", "--config", "/dev/null", "--log-level", "warn")
	harness.Eventually(t, "containerd answers", func() error {
		_, err := h.Run("ctr", "version")
		return err
	})
	t.Cleanup(func() {
		daemon.Signal(unix.SIGTERM)
		daemon.Wait()
	})
	h.Must(t, "ctr", "image", "import", "--snapshotter", "native", archive)
	h.Must(t, "ctr", "run", "--detach", "--snapshotter", "native", "--uidmap", fmt.Sprintf("0:%d:1", uid), "--gidmap", fmt.Sprintf("0:%d:6", uid),
		image, name, "/bin/sh", "-c", script)
	t.Cleanup(func() {
		h.Must(t, "ctr", "task", "delete", "--force", name)
		h.Must(t, "ctr", "container", "delete", name)
	})
}

// lxc starts a container of LXC that runs a script; more are lines of its configuration.
func lxc(t *testing.T, h *harness.Host, root, name string, uid uint32, script, more string) *harness.Process {
	t.Helper()
	private(t, h, "/var/lib/lxc")
	config := fmt.Sprintf(`
lxc.uts.name = %s
lxc.rootfs.path = dir:%s
lxc.rootfs.mount = %s
lxc.net.0.type = empty
lxc.net.0.flags = up
lxc.init.uid = %d
lxc.init.gid = %[4]d
lxc.console.path = none
lxc.apparmor.profile = unconfined
%s
`, name, root, t.TempDir(), uid, more)
	dir := filepath.Join("/var/lib/lxc", name)
	h.Must(t, "mkdir", dir)
	h.Must(t, "cp", h.Write("lxc.config", config), filepath.Join(dir, "config"))
	c := h.StartAs(0, "lxc-start", "--name", name, "--foreground", "--", "/bin/sh", "-c", script)
	t.Cleanup(func() { h.Run("lxc-stop", "--name", name, "--kill") })
	return c
}

// nspawn starts a machine of systemd's, as its unit would, that runs a script and is registered with systemd-machined. Its
// root is the user.
func nspawn(t *testing.T, h *harness.Host, root, name string, uid uint32, script string) {
	t.Helper()
	private(t, h, "/run/dbus", "/run/systemd")
	bus := h.Write("bus.conf", `<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`)
	h.StartAs(0, "dbus-daemon", "--config-file="+bus, "--nofork", "--nopidfile", "--nosyslog")
	harness.Eventually(t, "there is a bus", func() error {
		_, err := h.Run("test", "-S", "/run/dbus/system_bus_socket")
		return err
	})
	machined := "/lib/systemd/systemd-machined"
	if !has(machined) {
		machined = "systemd-machined" // see scripts/deps.sh
	}
	h.StartAs(0, machined)
	harness.Eventually(t, "machined is there", func() error {
		_, err := h.Run("dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.DBus.Peer.Ping")
		return err
	})
	enter := ""
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} { // where systemd keeps its units
		if !has(filepath.Join(dir, "cgroup.procs")) {
			continue
		}
		unit := testkit.Cgroup(t, filepath.Join(dir, "machine.slice", "systemd-nspawn@"+name+".service"))
		for _, part := range []string{"payload", "supervisor"} {
			testkit.Cgroup(t, filepath.Join(unit, part))
		}
		enter += "echo $$ >" + filepath.Join(unit, "cgroup.procs") + "; "
	}
	m := h.StartAs(0, "sh", "-c", enter+"exec systemd-nspawn --quiet --keep-unit --private-network --private-users="+strconv.Itoa(int(uid))+":1 --machine="+name+
		" --directory="+root+" --as-pid2 /bin/sh -c '"+script+"'")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("systemd-nspawn: %s", m.Output)
		}
	})
}

func has(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// emptyCgroups removes cgroups that runtimes have left, with those in them, unless they were there before.
func emptyCgroups(before []string) {
	for _, dir := range leftCgroups() {
		if slices.Contains(before, dir) {
			continue
		}
		var all []string
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for _, path := range slices.Backward(all) {
			os.Remove(path) // only if nobody is in it
		}
	}
}

// leftCgroups lists the cgroups that runtimes make at the root and leave there.
func leftCgroups() (dirs []string) {
	for _, name := range []string{"docker", "default", "libpod_parent", "lxc.pivot"} {
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			found, _ := filepath.Glob(filepath.Join(root, name))
			dirs = append(dirs, found...)
		}
	}
	return dirs
}
