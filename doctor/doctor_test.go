package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/florianl/go-nflog/v2"

	"culprit/internal/config"
	"culprit/internal/testkit"
)

// The doctor checks the namespace of its process. So a test for another namespace starts this
// binary again in it, with its task in DOCTOR_TEST.
func TestMain(m *testing.M) {
	switch os.Getenv("DOCTOR_TEST") {
	case "run":
		c := config.Default()
		c.Evidence.Dir = os.Getenv("DOCTOR_TEST_DIR")
		if err := json.NewEncoder(os.Stdout).Encode(Run(context.Background(), &c)); err != nil {
			panic(err)
		}
	case "hold":
		hold(os.Args[1])
	default:
		os.Exit(m.Run())
	}
}

// hold reads the default NFLOG group under the given process name, until its standard input
// ends.
func hold(name string) {
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		panic(err)
	}
	// The first netlink socket of a process gets its PID as port id. Ours must not be that one,
	// or the search by inode would not be tested.
	first, err := nflog.Open(&nflog.Config{})
	if err != nil {
		panic(err)
	}
	defer first.Close()
	nf, err := nflog.Open(&nflog.Config{Group: uint16(config.Default().NFLog.Group), Copymode: nflog.CopyPacket})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = nf.RegisterWithErrorFunc(ctx, func(nflog.Attribute) int { return 0 }, func(error) int { return 1 })
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	cancel()
	nf.Close()
}

// runIn makes the checks in the namespace, as the given UID.
func runIn(t *testing.T, n *testkit.Net, uid uint32, env ...string) map[string]Check {
	t.Helper()
	// Others may not enter the directory of the test binary, so run it by its descriptor.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = append(os.Environ(), "DOCTOR_TEST=run", "DOCTOR_TEST_DIR="+filepath.Join(dir, "culprit"))
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	var raw []struct{ Name, Status, Found, Remedy string }
	if err := json.Unmarshal([]byte(out.String()), &raw); err != nil {
		t.Fatal(err)
	}
	checks := make(map[string]Check)
	for _, r := range raw {
		status := map[string]Status{"ok": OK, "warn": Warn, "fail": Fail}[r.Status]
		checks[r.Name] = Check{r.Name, status, r.Found, r.Remedy}
		t.Logf("%-4s %-18s %s", r.Status, r.Name, r.Found)
		if r.Found == "" || (r.Remedy == "") != (status == OK) {
			t.Errorf("%+v: what is not OK needs a remedy, what is OK needs none", r)
		}
	}
	return checks
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	for _, backend := range testkit.Backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			n := testkit.NewNet(t)
			n.UseBackend(t, backend)
			checks := runIn(t, n, 0)
			// The checks left out here depend on where the tests run.
			for _, name := range []string{
				"kernel", "privileges", "iptables", "ip6tables", "firewall backend", "rules, IPv4",
				"rules, IPv6", "NFLOG group", "sensor", "namespaces", "BPF file system", "packet marks", "socket diagnostics", "process events", "strace", "ptrace", "attaching", "evidence directory",
			} {
				if c, found := checks[name]; !found || c.Status != OK {
					t.Errorf("%s: %+v", name, c)
				}
			}
			for _, command := range []string{"iptables-save", "ip6tables-save"} {
				if out := n.Must(t, command); strings.Contains(out, "NFLOG") {
					t.Errorf("%s shows a rule that was left behind:\n%s", command, out)
				}
			}
		})
	}
}

func TestOtherBackendHoldsRules(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]string{
		"nft":    "iptables uses nf_tables, but legacy holds rules too: ip6tables mangle (1)",
		"legacy": "iptables uses legacy, but nf_tables holds rules too: ip6 mangle (1)",
	} {
		n := testkit.NewNet(t)
		other := map[string]string{"nft": "legacy", "legacy": "nft"}[backend]
		n.Must(t, "ip6tables-"+other, "-t", "mangle", "-A", "OUTPUT", "-j", "ACCEPT")
		n.UseBackend(t, backend)
		got := runIn(t, n, 0)["firewall backend"]
		if got.Status != Warn || got.Found != want {
			t.Errorf("%s: %+v", backend, got)
		}
	}
}

func TestGroupHolderIsNamed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Status{"ulogd": Fail, "culprit": OK} {
		n := testkit.NewNet(t)
		holder := exec.Command("/proc/self/exe", name)
		holder.Env = append(os.Environ(), "DOCTOR_TEST=hold")
		in, err := holder.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := holder.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(holder); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		got := runIn(t, n, 0)["NFLOG group"]
		if got.Status != want || !strings.Contains(got.Found, fmt.Sprintf("PID %d", holder.Process.Pid)) || !strings.Contains(got.Found, name) {
			t.Errorf("%s has it: %+v", name, got)
		}
		in.Close()
		if err := holder.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestNothingInPath(t *testing.T) {
	t.Parallel()
	checks := runIn(t, testkit.NewNet(t), 0, "PATH=")
	for _, name := range []string{"iptables", "ip6tables", "rules, IPv4", "rules, IPv6", "strace", "attaching"} {
		if c := checks[name]; c.Status != Fail || !strings.Contains(c.Found, " in PATH") {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestWithoutRoot(t *testing.T) {
	t.Parallel()
	checks := runIn(t, testkit.NewNet(t), nobody)
	if c := checks["privileges"]; c.Status != Fail || !strings.Contains(c.Remedy, "sudo") {
		t.Errorf("privileges: %+v", c)
	}
	for _, name := range []string{"rules, IPv4", "rules, IPv6", "firewall backend", "sensor", "packet marks", "process events", "attaching", "evidence directory"} {
		if c := checks[name]; c.Status != Warn || c.Found != "cannot tell without root" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	for _, name := range []string{"iptables", "strace", "kernel"} {
		if c := checks[name]; c.Status != OK {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestIPv6Off(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	n.Must(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
	if c := runIn(t, n, 0)["IPv6"]; c.Status != Warn || !strings.HasPrefix(c.Found, "off: ") {
		t.Errorf("%+v", c)
	}
}

func TestAMissingTableFails(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	c := config.Default()
	c.Firewall.Table = "nosuch"
	if got := rulesIPv4(t.Context(), &c); got.Status != Fail || !strings.Contains(got.Remedy, "iptable_nosuch") {
		t.Errorf("%+v", got)
	}
}

func TestAHangingCheckFails(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	got := bounded(ctx, func(context.Context) Check { select {} })
	if got.Status != Fail || !strings.Contains(got.Found, "no answer") {
		t.Errorf("%+v", got)
	}
}
