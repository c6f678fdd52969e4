package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// Other people's firewalls, the real ones: they start, reload and stop while we hunt.

// firewalls downloads ufw and firewalld, with what they need and is not here, and
// unpacks them. They are not installed: that would put a firewall into force on the
// machine that tests.
var firewalls = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(harness.Programs.Dir, "firewalls")
	archives := filepath.Join(dir, "archives")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return "", err
	}
	out, err := exec.Command("apt-get", "--quiet", "--yes", "--download-only", "--no-install-recommends",
		"-o", "Dir::Cache::archives="+archives, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		"install", "ufw", "firewalld").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("download ufw and firewalld: %w\n%s", err, out)
	}
	packages, err := filepath.Glob(archives + "/*.deb")
	if err != nil {
		return "", err
	}
	for _, p := range packages {
		if out, err := exec.Command("dpkg", "-x", p, dir).CombinedOutput(); err != nil {
			return "", fmt.Errorf("unpack %s: %w\n%s", p, err, out)
		}
	}
	// Where /lib is a part of /usr.
	out, err = exec.Command("sh", "-c", "cd "+dir+" && for d in lib sbin bin; do [ ! -d $d ] || cp -a $d usr/; done").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("unpack: %w\n%s", err, out)
	}
	for _, program := range []string{"/usr/sbin/ufw", "/usr/sbin/firewalld", "/usr/bin/dbus-daemon"} {
		_, unpacked := os.Stat(dir + program)
		if _, installed := os.Stat(program); unpacked != nil && installed != nil {
			return "", fmt.Errorf("download ufw and firewalld: there is no %s in %v", program, packages)
		}
	}
	return dir, nil
})

// withFirewalls puts the two over the host's file system.
func withFirewalls(t *testing.T, h *harness.Host) {
	t.Helper()
	dir, err := firewalls()
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("this test needs apt-get and a mirror of Debian: ", err)
	}
	over := filepath.Join(h.Dir, "over")
	h.Must(t, "mkdir", over)
	h.Must(t, "mount", "-t", "tmpfs", "tmpfs", over)
	for _, top := range []string{"usr", "etc", "run"} {
		upper, work := filepath.Join(over, top), filepath.Join(over, top+".work")
		h.Must(t, "mkdir", upper, work)
		lower := "/" + top
		if _, err := os.Stat(filepath.Join(dir, top)); err == nil {
			lower = filepath.Join(dir, top) + ":" + lower
		}
		h.Must(t, "mount", "-t", "overlay", "overlay", "-o", "lowerdir="+lower+",upperdir="+upper+",workdir="+work, "/"+top)
	}
	h.UseBackend(t, h.Backend) // again, as /usr is another one now
	t.Cleanup(func() {
		h.Do(func() {
			for _, top := range []string{"/run", "/etc", "/usr", over} {
				unix.Unmount(top, unix.MNT_DETACH)
			}
		})
	})
}

var gapLine = regexp.MustCompile(`packets missed for up to (\S+) without our firewall rules`)

// A meddling is what somebody does to the firewall.
type meddling struct {
	what string
	do   func()
	gap  bool // it removes our rules for sure
}

// outlives checks that the rules are in force again after each of them, that packets
// are hits then, and that each gap is told and counted.
func outlives(t *testing.T, d *harness.Daemon, all ...meddling) {
	t.Helper()
	s := d.Host.Sender(harness.NewUID())
	for i, m := range all {
		before := len(gapsTold(d))
		m.do()
		harness.Eventually(t, fmt.Sprintf("the rules are in force after %s", m.what), func() error {
			if m.gap && len(gapsTold(d)) == before {
				return errors.New("no gap is told")
			}
			if r := d.Host.Culprit("rules", "status", "-c", d.Config); r.Code != 0 {
				return fmt.Errorf("rules status: %s%s", r.Out, r.Errors)
			}
			return nil
		})
		name := fmt.Sprintf("after%d.badzone.test", i)
		s.Ask(name)
		d.Hit(name)
		t.Logf("%s: gaps %v", m.what, gapsTold(d)[before:])
	}
	harness.Traced(t, s.Process)
	lean(d)
	d.Stop()
	lost := gapLine.FindAllString(d.Host.Culprit("losses", "--evidence", d.Evidence).Must(t), -1)
	if told := strings.Count(d.Output.String(), "our rules are in place again"); len(lost) != told {
		t.Errorf("%d gaps were told, and the losses have %q", told, lost)
	}
	if left := d.Host.Firewall(); strings.Contains(left, "CULPRIT") {
		t.Errorf("after the hunt the firewall is\n%s", left)
	}
}

// gapsTold are how long at most our rules were not in force, each time.
func gapsTold(d *harness.Daemon) (all []string) {
	d.T.Helper()
	for _, m := range gapLine.FindAllStringSubmatch(d.Host.Culprit("losses", "--evidence", d.Evidence).Must(d.T), -1) {
		all = append(all, m[1])
	}
	return all
}

// gateless is a configuration without the gate: these tests mount file systems.
const gateless = "capture: {gate: off, levels: [{hits: 1, processes: 200, window: 10m}]}\n"

func TestUfw(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		withFirewalls(t, h)
		// What its package does when it is installed; and no kernel settings.
		h.Must(t, "sh", "-c", `cp /usr/share/ufw/*.rules /usr/share/ufw/ufw.conf /etc/ufw/ &&
			sed -i "s/^IPT_SYSCTL=.*/IPT_SYSCTL=/; s/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=yes/" /etc/default/ufw`)
		ufw := func(args ...string) func() { return func() { h.Must(t, "/usr/sbin/ufw", args...) } }
		d := h.Hunt(gateless)
		outlives(t, d,
			meddling{"ufw enable", ufw("--force", "enable"), false},
			meddling{"ufw allow", ufw("allow", "in", "22/tcp"), false},
			meddling{"ufw reload", ufw("reload"), false},
			meddling{"ufw disable", ufw("disable"), false},
			meddling{"ufw reset", ufw("--force", "reset"), false},
		)
	})
}

// busConfig is a D-Bus on which everybody may do anything.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=BUS</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
`

func TestFirewalld(t *testing.T) {
	t.Parallel()
	// The backends of firewalld, on those of iptables.
	for backend, iptables := range map[string]string{"nftables": "nft", "iptables": "legacy"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, iptables)
			withFirewalls(t, h)
			h.Must(t, "sed", "-i", "s/^FirewallBackend=.*/FirewallBackend="+backend+"/; s/^IPv6_rpfilter=.*/IPv6_rpfilter=no/", "/etc/firewalld/firewalld.conf")
			bus := filepath.Join(h.Dir, "bus")
			h.StartAs(0, "/usr/bin/dbus-daemon", "--nofork", "--nopidfile", "--config-file="+h.Write("bus.conf", strings.ReplaceAll(busConfig, "BUS", bus)))
			harness.Eventually(t, "there is a D-Bus", func() error {
				_, err := os.Stat(bus)
				return err
			})
			run := func(args ...string) *exec.Cmd {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + bus}
				return cmd
			}
			running := func() error {
				if r := h.Command(run("/usr/bin/firewall-cmd", "--state")); r.Code != 0 {
					return fmt.Errorf("firewall-cmd --state: %s%s", r.Out, r.Errors)
				}
				return nil
			}
			var firewalld *harness.Process
			d := h.Hunt(gateless)
			outlives(t, d,
				meddling{"firewalld starts", func() {
					firewalld = h.StartCommandAs(0, run("/usr/sbin/firewalld", "--nofork", "--nopid"))
					harness.Within(t, 2*harness.Patience, "firewalld runs", running)
				}, true},
				meddling{"firewall-cmd --reload", func() {
					h.Command(run("/usr/bin/firewall-cmd", "--reload")).Must(t)
				}, true},
				meddling{"firewalld stops", func() {
					firewalld.Signal(syscall.SIGTERM)
					firewalld.Wait()
				}, true},
			)
		})
	}
}
