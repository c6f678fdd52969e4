package containers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// asked waits until as many programs have asked for an address of a name, and a resolver has forwarded that as often.
func asked(t *testing.T, d *harness.Daemon, name, resolver string, times int) (outs, ins []event.Hit) {
	t.Helper()
	harness.Eventually(t, name+" is asked and forwarded", func() error {
		outs, ins = nil, nil
		for _, h := range d.Hits() {
			switch {
			case h.DNS == nil || h.DNS.Question.Name != name || h.DNS.Question.Type != "A":
			case h.Process != nil && filepath.Base(h.Process.Executable) == resolver:
				outs = append(outs, h)
			default:
				ins = append(ins, h)
			}
		}
		if len(outs) < times || len(ins) < times {
			return fmt.Errorf("asked %d times, forwarded %d times", len(ins), len(outs))
		}
		return nil
	})
	return outs, ins
}

// A container asks Docker's resolver, and that asks for it: in its namespace, or where a resolver of the host listens only there in
// ours.
func TestDockerResolver(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	uplink(t, h)
	h.StartAs(0, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv", "--no-hosts",
		"--cache-size=0", "--bind-interfaces", "--listen-address=192.0.2.10", "--address=/test/192.0.2.1", "--address=/test/2001:db8::1")
	uid := harness.NewUID()
	_, tar := rootfs(t, h, map[uint32]string{uid: "www-data"})
	docker := newDocker(t, h, tar)
	docker.post("/networks/create", map[string]any{"Name": "net1"})
	domain, config := zone("all")
	path, err := exec.LookPath("dockerd") // it may be where no package has it
	if err != nil {
		t.Fatal(err)
	}
	d := h.Hunt(config + "guard: {resolvers: [" + path + "]}\n")
	for i, server := range []string{"127.0.0.1", "192.0.2.10"} {
		h.Resolver(server, "")
		box, name := fmt.Sprint("web-", i), fmt.Sprintf("x%d.%s", i, domain)
		docker.start(box, "net1", uid, "nslookup "+name+" 127.0.0.11; exec sleep 1000")
		outs, ins := asked(t, d, name, "dockerd", 1)
		in, out := ins[0], outs[0]
		if in.Container == nil || in.Container.Name != box || in.Culprit.Capture == nil || in.Culprit.Netns == nil {
			t.Errorf("the hit of the container: %+v in %+v, %+v", in.Container, in.Culprit.Netns, in.Culprit)
		}
		if from := out.Culprit.ForwardedFrom; from == nil || from.ID != in.Event.ID || from.How != event.ForwardedQuestion || out.Culprit.Capture != nil {
			t.Errorf("Docker's packet to %s is forwarded from %+v, want %s: %+v", out.Destination, from, in.Event.ID, out.Culprit)
		}
		if inside := out.Culprit.Netns != nil && out.Culprit.Netns.Inode == in.Culprit.Netns.Inode; inside != (server == "192.0.2.10") {
			t.Errorf("Docker asked %s in %+v", server, out.Culprit.Netns)
		}
		says(t, "culprit show", h.Culprit("show", out.Event.ID, "--evidence", d.Evidence).Must(t), "for the program of hit "+in.Event.ID, "container "+box)
	}
	d.Stop()
}

// box is a program in a network of root's, on a bridge of the host.
func box(t *testing.T, h *harness.Host, number int, uid uint32) *harness.Process {
	t.Helper()
	script := fmt.Sprintf("echo ready; while read -r n; do %s -s 10.89.0.1 -n $n; done", harness.Programs.OffenderC)
	p := h.StartAs(0, "unshare", "--net", "setpriv", "--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups", "/bin/sh", "-c", script)
	p.Said("ready", 1)
	link := fmt.Sprint("box", number)
	h.Must(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(p.PID))
	h.Must(t, "ip", "link", "set", link, "master", "bridge0", "up")
	in := func(args ...string) {
		t.Helper()
		h.Must(t, "nsenter", append([]string{"--target", fmt.Sprint(p.PID), "--net", "ip"}, args...)...)
	}
	in("address", "add", fmt.Sprintf("10.89.0.%d/24", 10+number), "dev", "eth0")
	in("link", "set", "eth0", "up")
	return p
}

// aardvark starts podman's resolver for a bridge, and returns its PID.
func aardvark(t *testing.T, h *harness.Host) int {
	t.Helper()
	h.Must(t, "ip", "link", "add", "bridge0", "type", "bridge")
	h.Must(t, "ip", "address", "add", "10.89.0.1/24", "dev", "bridge0")
	h.Must(t, "ip", "link", "set", "bridge0", "up")
	dir := filepath.Join(h.Dir, "aardvark")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "net1"), []byte("10.89.0.1\n0123456789abcdef 10.89.0.11  web-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := "/usr/lib/podman/aardvark-dns"
	if _, err := os.Stat(program); err != nil {
		program = "/usr/libexec/podman/aardvark-dns"
	}
	h.StartAs(0, program, "--config", dir, "--port", "53", "run") // it goes into the background
	pid := 0
	harness.Eventually(t, "aardvark-dns runs", func() (err error) {
		text, err := os.ReadFile(filepath.Join(dir, "aardvark.pid"))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if err == nil && pid <= 1 {
			err = errors.New("no PID")
		}
		return err
	})
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// Containers ask podman's resolver, which asks for all of them with ids of its own. Where two have asked the same, it
// cannot be known which one it was: both are listed.
func TestPodmanResolver(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	pid := aardvark(t, h)
	first, second := box(t, h, 1, harness.NewUID()), box(t, h, 2, harness.NewUID())
	harness.Eventually(t, "aardvark-dns answers", func() error {
		_, err := h.Run("nsenter", "--target", fmt.Sprint(first.PID), "--net", harness.Programs.OffenderC, "-w", "-s", "10.89.0.1", "-n", "ready.test")
		return err
	})
	domain, config := zone("all")
	d := h.Hunt(config)
	name := "x." + domain
	first.Say(name)
	outs, ins := asked(t, d, name, "aardvark-dns", 1)
	if from := outs[0].Culprit.ForwardedFrom; from == nil || from.ID != ins[0].Event.ID || from.How != event.ForwardedQuestion || outs[0].Process.PID != pid {
		t.Errorf("the packet of %v is forwarded from %+v, want %s", outs[0].Process, from, ins[0].Event.ID)
	}
	second.Say(name)
	outs, ins = asked(t, d, name, "aardvark-dns", 2)
	candidates := outs[1].Culprit.ForwardedCandidates
	if late := ins[1].Timestamp.Sub(ins[0].Timestamp) > 5*time.Second; !late && (len(candidates) != 2 || candidates[0].ID != ins[1].Event.ID || candidates[1].ID != ins[0].Event.ID || outs[1].Culprit.ForwardedFrom != nil) {
		t.Errorf("the second packet is forwarded from %+v or %+v, want any of %s and %s", outs[1].Culprit.ForwardedFrom, candidates, ins[0].Event.ID, ins[1].Event.ID)
	} else if !late {
		says(t, "culprit show of one who asked", h.Culprit("show", ins[1].Event.ID, "--evidence", d.Evidence).Must(t), "perhaps by", outs[1].Event.ID)
		says(t, "culprit show", h.Culprit("show", outs[1].Event.ID, "--evidence", d.Evidence).Must(t), "for this one, or another: process", ins[0].Event.ID, ins[1].Event.ID)
	}
	for _, out := range outs {
		if out.Culprit.Capture != nil {
			t.Errorf("the packet of %v started a capture", out.Process)
		}
	}
	d.Stop()
}
