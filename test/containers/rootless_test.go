package containers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/test/harness"
)

// alice is a user of a host who has a podman of her own: her files are in her home, her root is herself.
type alice struct {
	*harness.Host
	t       *testing.T
	uid     uint32
	runtime string // directory
	env     []string
}

// newAlice adds her to the host, with an image and other UIDs for her containers.
func newAlice(t *testing.T, h *harness.Host) alice {
	t.Helper()
	a := alice{Host: h, t: t, uid: harness.NewUID(), runtime: filepath.Join(h.Dir, "run")}
	home := filepath.Join(h.Dir, "home")
	for _, dir := range []string{home, a.runtime} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(a.uid), int(a.uid)); err != nil {
			t.Fatal(err)
		}
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	h.Bind(t, "/etc/passwd", fmt.Sprintf("%salice:x:%d:%[2]d::%s:/bin/sh\n", passwd, a.uid, home))
	for _, path := range []string{"/etc/subuid", "/etc/subgid"} {
		h.Bind(t, path, fmt.Sprintf("alice:%d:65536\n", harness.NewUID()))
	}
	a.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + a.runtime}
	_, tar := rootfs(t, h, nil)
	if p := a.podman("", "import", "--quiet", tar, image); p.Wait() != 0 {
		t.Fatal(p.Output)
	}
	// It leaves a process that holds its user namespace.
	t.Cleanup(func() {
		text, _ := os.ReadFile(filepath.Join(a.runtime, "libpod/tmp/pause.pid"))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return a
}

// podman starts a command of her podman, in a cgroup of v2, or in that of the test.
func (a alice) podman(cgroup string, args ...string) *harness.Process {
	a.t.Helper()
	name, all := "podman", append(podmanArgs, args...)
	if cgroup != "" {
		// Only root can move a process there.
		all = append([]string{"-c", `echo $$ >"$1" && uid=$2 && shift 2 && exec setpriv --reuid "$uid" --regid "$uid" --clear-groups podman "$@"`, "sh", filepath.Join(cgroup, "cgroup.procs"), fmt.Sprint(a.uid)}, all...)
		name = "sh"
	}
	cmd := exec.Command(name, all...)
	cmd.Env = a.env
	if cgroup != "" {
		return a.StartCommandAs(0, cmd)
	}
	return a.StartCommandAs(a.uid, cmd)
}

// run starts a container of hers that looks a name up.
func (a alice) run(cgroup, domain string, args ...string) *harness.Process {
	a.t.Helper()
	return a.runIn("none", "127.0.0.1", cgroup, domain, args...)
}

// runIn starts one in a network, where a server answers.
func (a alice) runIn(network, server, cgroup, domain string, args ...string) *harness.Process {
	a.t.Helper()
	all := append(append([]string{"run", "--name", "web-1", "--network", network}, limits...), args...)
	c := a.podman(cgroup, append(all, image, "/bin/sh", "-c", "/bin/nslookup x."+domain+" "+server+"; exec /bin/sleep 1000")...)
	a.t.Cleanup(func() {
		if a.t.Failed() {
			a.t.Logf("podman said: %s", c.Output)
		}
	})
	return c
}

// A user's own podman, where systemd has given her a part of cgroup v2: the container has its name. All that she can have made up is
// about her own processes.
func TestRootless(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	a, cgroup, args := newAliceWithCgroups(t, h)
	domain, config := zone("all")
	d := h.Hunt(config)
	a.run(cgroup, domain, args...)
	hit := proven(t, d, "x."+domain)
	if c := hit.Container; c == nil || c.Name != "web-1" || c.Image == nil || c.Image.Name != image || c.Runtime != "podman" || c.Claimed {
		t.Fatalf("the container is %+v", c)
	}
	if got, want := hit.User.String(), fmt.Sprintf("%d (root in web-1)", a.uid); got != want {
		t.Errorf("the user is %q, want %q", got, want)
	}
	d.Stop()
	shown(t, d, d.Hit("x."+domain))
}

// Her container goes out through slirp4netns, which podman starts, or through pasta, as later versions of podman start it: what that
// sends is for the container.
func TestRootlessForwarder(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		program, server string
		network         func(alice) string
	}{
		{"slirp4netns", "10.0.2.3", func(alice) string { return "slirp4netns" }},
		{"pasta", "192.0.2.1", alice.behindPasta},
	} {
		for _, namespaces := range []string{"all", "host"} {
			t.Run(f.program+"/"+namespaces, func(t *testing.T) {
				t.Parallel()
				h := harness.NewHost(t, "")
				uplink(t, h)
				a, cgroup, args := newAliceWithCgroups(t, h)
				network := f.network(a)
				domain, config := zone(namespaces)
				d := h.Hunt(config)
				a.runIn(network, f.server, cgroup, domain, args...)
				a.sentOn(t, d, f.program, namespaces)
				d.Stop()
			})
		}
	}
}

// sentOn checks what is told of what a forwarder sends for her container.
func (a alice) sentOn(t *testing.T, d *harness.Daemon, forwarder, namespaces string) {
	t.Helper()
	var out, in event.Hit
	harness.Eventually(t, "the container asks", func() error {
		found := 0
		for _, hit := range d.Hits() {
			switch {
			case hit.DNS == nil || hit.DNS.Question.Type != "A":
			case hit.Culprit.Netns == nil:
				out = hit
				found |= 1
			default:
				in = hit
				found |= 2
			}
		}
		if want := map[string]int{"all": 3, "host": 1}[namespaces]; found != want {
			return fmt.Errorf("found %d, want %d", found, want)
		}
		return nil
	})
	if out.Process == nil || !strings.Contains(out.Process.CommandLine, forwarder+" ") || len(out.Culprit.Serves) != 1 {
		t.Fatalf("the packet of %v serves %+v", out.Process, out.Culprit.Serves)
	}
	if s := out.Culprit.Serves[0]; s.Container == nil || s.Container.Name != "web-1" || s.Netns.Owner.ID != fmt.Sprint(a.uid) {
		t.Errorf("it serves %+v, of %v", s.Container, s.Netns.Owner)
	}
	from := out.Culprit.ForwardedFrom
	if namespaces == "host" {
		if from != nil || out.Culprit.Capture == nil {
			t.Errorf("it is forwarded from %+v: %+v", from, out.Culprit)
		}
	} else if from == nil || from.ID != in.Event.ID || from.Container == nil || from.Container.Name != "web-1" || out.Culprit.Capture != nil {
		t.Errorf("it is forwarded from %+v, want %s of web-1", from, in.Event.ID)
	}
}

// behindPasta makes a network namespace of her podman's user namespace, with a pasta in front of it that runs there too, as
// podman does from 4.4 on. It returns its name for podman.
func (a alice) behindPasta() string {
	a.t.Helper()
	path := filepath.Join(a.runtime, "netns")
	holder := a.podman("", "unshare", "/bin/sh", "-c", ">$0 && exec unshare --net=$0 /bin/sh -c 'ip link set lo up && echo netns=$$; cat'", path)
	holder.Said("netns=", 1)
	_, pid, _ := strings.Cut(strings.TrimSpace(holder.Output.String()), "netns=")
	pasta := a.podman("", "unshare", "pasta", "--foreground", "--config-net", "--quiet", "--netns", path)
	harness.Eventually(a.t, "pasta forwards", func() error {
		if pasta.Ended() {
			a.t.Fatalf("pasta ended: %s", pasta.Output)
		}
		_, err := a.Run("nsenter", "--target", pid, "--user", "--preserve-credentials", "--net", harness.Programs.OffenderC, "-w", "-s", "192.0.2.1", "-n", "ready.test")
		return err
	})
	return "ns:" + path
}

// newAliceWithCgroups gives her a part of cgroup v2, as systemd does, and returns where her podman has to be and what it has to be told.
func newAliceWithCgroups(t *testing.T, h *harness.Host) (a alice, cgroup string, args []string) {
	t.Helper()
	root := testkit.CgroupRoots(t)[0]
	// For podman there is nothing but cgroup v2.
	var err error
	h.Do(func() { err = unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "") })
	if err != nil {
		t.Fatal(err)
	}
	a = newAlice(t, h)
	parent := fmt.Sprintf("/user.slice/user-%d.slice/user@%[1]d.service", a.uid)
	service := testkit.Cgroup(t, filepath.Join(root, parent))
	var hers []string
	for _, name := range []string{"init.scope", "app.slice", "app.slice/podman"} {
		hers = append(hers, testkit.Cgroup(t, filepath.Join(service, name)))
	}
	for _, dir := range append(hers, service) {
		for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
			if err := os.Chown(filepath.Join(dir, file), int(a.uid), int(a.uid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { a.podman("", "rm", "--all", "--force", "--time", "0").Wait() })
	return a, filepath.Join("/sys/fs/cgroup", parent, "init.scope"), []string{"--cgroup-parent", filepath.Join(parent, "app.slice/podman")}
}

// With cgroup v1 a user's podman makes no cgroups: the lookup is that of the user, and the container's id is in the command line
// of a parent.
func TestRootlessWithoutCgroups(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		t.Skip("this machine has cgroup v2 alone")
	}
	a := newAlice(t, h)
	domain, config := zone("all")
	d := h.Hunt(config)
	a.run("", domain)
	t.Cleanup(func() { a.podman("", "rm", "--all", "--force", "--time", "0").Wait() })
	hit := proven(t, d, "x."+domain)
	if hit.Container != nil || hit.User.ID != fmt.Sprint(a.uid) {
		t.Errorf("the container is %+v, the user %v", hit.Container, hit.User)
	}
	if all := strings.Join(hit.Process.Ancestry(), "\n"); !strings.Contains(all, "conmon --api-version 1 -c ") {
		t.Errorf("the parents do not have the id:\n%s", all)
	}
	d.Stop()
}
