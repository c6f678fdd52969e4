package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/testkit/natsserver"
	"culprit/test/harness"
)

// With the rights that `culprit fleet accounts` prints everything works: what a host finds is seen by a reader, it takes a set
// from the operator, and gives the bundle that the reader asks for. The reader cannot publish sets.
func TestRights(t *testing.T) {
	t.Parallel()
	s := &site{Host: harness.NewHost(t, ""), t: t}
	keys := filepath.Join(s.Dir, "keys")
	as := func(user string, args ...string) []string {
		return append(append([]string{"fleet"}, args...), "--servers", servers, "--credentials", filepath.Join(keys, user+".nk"))
	}
	accounts := s.culprit("fleet", "accounts", "--dir", keys, "web1", "web2")
	accounts = accounts[strings.Index(accounts, "accounts {"):]
	config := s.Write("nats.conf", fmt.Sprintf("listen: \"127.0.0.1:4222\"\njetstream { store_dir: %q }\n%s", filepath.Join(s.Dir, "store"), accounts))
	program, err := natsserver.Program()
	if err != nil {
		t.Fatal(err)
	}
	s.server = s.StartCommandAs(0, exec.Command(program, "-c", config))
	harness.Eventually(t, "the fleet is set up", func() error {
		_, err := s.Run(harness.Programs.Culprit, as("operator", "init", "--host", "web1", "--host", "web2")...)
		return err
	})
	s.key = filepath.Join(s.Dir, "fleet.key")
	_, rest, _ := strings.Cut(s.culprit("fleet", "keygen", "--no-password", s.key), "keys: [")
	s.public, _, _ = strings.Cut(rest, "]")

	own, evidence := s.Configure(harness.Badzone + "capture: {levels: [{hits: 1, processes: 5, window: 1s, strings: 512}], linger: 0s}\n" +
		fmt.Sprintf("fleet: {servers: [%q], host: web1, credentials: %s, bundles: request, accept: [rules, lists], keys: [%q]}\n", servers, filepath.Join(keys, "web1.nk"), s.public))
	d := s.HuntWith(own, evidence)
	list := s.Write("feed.txt", "listed.test\n")
	set := s.Write("zones.yaml", fmt.Sprintf("rules: [{name: worse, string: WORSE}, {name: feed, list: %s}]", list))
	if out, err := s.Run(harness.Programs.Culprit, as("reader", "publish", set, "--key", s.key, "--wait", "0s")...); err == nil {
		t.Errorf("a reader has published a set:\n%s", out)
	}
	s.culprit(as("operator", "publish", set, "--key", s.key, "--wait", "0s")...)
	logged(d, inForce, "zones", "")
	s.Sender(harness.NewUID()).Ask("x.worse.test")
	mirror := filepath.Join(s.Dir, "mirror")
	capture := ""
	harness.Eventually(t, "the reader sees the hit", func() error {
		out, err := s.Run(harness.Programs.Culprit, as("reader", "hits", "--json", "--mirror", mirror, "--name", "x.worse.test")...)
		if err != nil {
			return err
		}
		var h struct {
			Culprit struct{ Capture struct{ ID string } }
		}
		if err := json.Unmarshal([]byte(out), &h); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		capture = h.Culprit.Capture.ID
		return nil
	})
	s.culprit(as("reader", "fetch", capture, "--mirror", mirror, "--wait", "60s")...)
	if found, _ := filepath.Glob(filepath.Join(mirror, "traces", "*", "*")); len(found) == 0 {
		t.Error("no trace was brought")
	}
	for line := range strings.Lines(d.Output.String()) {
		if strings.Contains(line, "the fleet refuses") || strings.Contains(line, "ermissions") {
			t.Errorf("a right is missing: %s", line)
		}
	}
	if info, err := os.Stat(filepath.Join(keys, "web1.nk")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(errors.Join(err, fmt.Errorf("%v", info)))
	}
}
