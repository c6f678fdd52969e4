package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/testkit"
	"culprit/test/harness"
)

// A container makes network namespaces and drops them, for as long as it is let, and sends what rules look for in each. What others send is a
// hit all the same, and culprit keeps none of the namespaces.
func TestNamespacesInALoop(t *testing.T) {
	t.Parallel()
	const lookups = 10
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	d := h.Hunt(config)
	before := descriptors(t, d)
	hostile := h.StartAs(harness.NewUID(), "sh", "-c", `trap 'on=no' TERM; on=yes; n=0
		while [ $on = yes ]; do
			n=$((n+1))
			unshare --user --map-root-user --net sh -c "ip link set lo up; `+harness.Programs.OffenderC+` -c 20 -n n$n.`+domain+`"
			echo dropped
		done`)
	hostile.Said("dropped", 5)
	for i := range lookups {
		uid, name := harness.NewUID(), fmt.Sprintf("quiet-%d.%s", i, domain)
		p := other.StartAs(uid, harness.Programs.OffenderC, "-n", name)
		if p.Wait() != 0 {
			t.Fatal(p.Output)
		}
		if hit := d.Hit(name); hit.Process == nil || hit.Process.PID != p.PID || hit.User.ID != fmt.Sprint(uid) {
			t.Errorf("%s was sent by %d: named is %v", name, p.PID, hit.Process)
		}
	}
	hostile.Signal(syscall.SIGTERM)
	hostile.Wait()
	harness.Eventually(t, "no descriptor is left of it", func() error {
		for at, what := range descriptors(t, d) {
			if strings.HasPrefix(what, "net:[") && before[at] != what {
				return fmt.Errorf("the daemon has %s", what)
			}
		}
		return nil
	})
	d.Stop()
}

// descriptors are what the daemon has open.
func descriptors(t *testing.T, d *harness.Daemon) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", d.PID)
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	for _, f := range all {
		open[f.Name()], _ = os.Readlink(filepath.Join(dir, f.Name()))
	}
	return open
}

// Root of a container mounts what it likes over its /proc. It is named, and traced from its packet on.
func TestMountsOverProc(t *testing.T) {
	t.Parallel()
	h, other := harness.NewHost(t, ""), harness.NewHost(t, "")
	domain, config := zone("all")
	d := h.Hunt(config)
	web, uid, name := newGroup(t), harness.NewUID(), "x."+domain
	p := web.start(other, uid, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
		`mount -t tmpfs none /proc && mkdir -p /proc/self /proc/1 && echo innocent >/proc/self/comm && echo 0::/ >/proc/self/cgroup &&
			mount -t tmpfs none /sys && exec "$@"`, "sh", harness.Programs.OffenderC, "-n", name)
	if p.Wait() != 0 {
		t.Fatal(p.Output)
	}
	hit := caught(t, d, name, p.PID, uid)
	if hit.Container == nil || hit.Container.ID != web.id || hit.Process.Executable != harness.Programs.OffenderC {
		t.Errorf("the hit is of %s in %+v", hit.Process.Executable, hit.Container)
	}
	d.Stop()
}

// Root of a container fills its firewall with thousands of rules, some of them like ours. Its packets are hits once, and its firewall is
// as it was.
func TestFullFirewall(t *testing.T) {
	t.Parallel()
	const rules = 2000
	for _, backend := range testkit.Backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			h, other := harness.NewHost(t, backend), harness.NewHost(t, backend)
			domain, config := zone("all")
			var all strings.Builder
			all.WriteString("*raw\n:CULPRIT - [0:0]\n-A OUTPUT -j CULPRIT\n")
			for i := range rules {
				fmt.Fprintf(&all, "-A CULPRIT -p udp --dport 53 -m string --string %d.%s --algo bm -j NFLOG --nflog-group 5353 --nflog-prefix zone\n", i, domain)
			}
			all.WriteString("-A CULPRIT -p udp --dport 53 -j NFLOG --nflog-group 5353 --nflog-prefix zone --nflog-threshold 1\nCOMMIT\n")
			other.Must(t, "iptables-restore", "--noflush", other.Write("rules", all.String()))
			before := other.Firewall()
			d := h.Hunt(config)
			for i := range 3 {
				uid, name := harness.NewUID(), fmt.Sprintf("x%d.%s", i, domain)
				p := other.StartAs(uid, harness.Programs.OffenderC, "-n", name)
				if p.Wait() != 0 {
					t.Fatal(p.Output)
				}
				caught(t, d, name, p.PID, uid)
			}
			other.Unchanged(before, "during the hunt")
			d.Stop()
			if all := d.Hits(); len(all) != 3 {
				t.Errorf("%d hits, want 3", len(all))
			}
		})
	}
}
