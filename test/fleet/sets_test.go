package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"aead.dev/minisign"

	"culprit/fleet/sets"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
	"culprit/test/harness"
)

// A site is a host with a server of the fleet beside it, in one network namespace.
type site struct {
	*harness.Host
	t      *testing.T
	server *harness.Process
	config string // of the server
	key    string // file that signs
	public string
}

const servers = "nats://127.0.0.1:4222"

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteWith(t, func(*site) string { return "listen: \"127.0.0.1:4222\"\n" }, "web1", "web2")
}

// newSiteWith says how the server listens, and which hosts there are.
func newSiteWith(t *testing.T, listens func(*site) string, hosts ...string) *site {
	t.Helper()
	s := &site{Host: harness.NewHost(t, ""), t: t}
	rights := s.culprit(append([]string{"fleet", "accounts", "--dir", s.Dir}, hosts...)...)
	rights = rights[strings.Index(rights, "accounts {"):] // what comes before says which keys were made
	s.config = s.Write("nats.conf", fmt.Sprintf("%sjetstream { store_dir: %q }\n%s", listens(s), filepath.Join(s.Dir, "store"), rights))
	s.serve()
	s.fleet("init", "--host", strings.Join(hosts, ","))
	s.key = filepath.Join(s.Dir, "fleet.key")
	out := s.culprit("fleet", "keygen", "--no-password", s.key)
	_, rest, _ := strings.Cut(out, "keys: [")
	s.public, _, _ = strings.Cut(rest, "]")
	return s
}

// serve starts the server.
func (s *site) serve() {
	s.t.Helper()
	program, err := natsserver.Program()
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = s.StartCommandAs(0, exec.Command(program, "-c", s.config))
	harness.Eventually(s.t, "the server of the fleet answers", func() error {
		_, err := s.Run(harness.Programs.Culprit, "fleet", "sets", "--servers", servers, "--credentials", s.nkey("operator"))
		if err != nil && strings.Contains(err.Error()+s.server.Output.String(), "fleet init") {
			return nil
		}
		return err
	})
}

// end ends the server.
func (s *site) end() {
	_ = s.server.Cmd.Process.Kill()
	s.server.Wait()
}

func (s *site) culprit(args ...string) string {
	s.t.Helper()
	return s.Must(s.t, harness.Programs.Culprit, args...)
}

// fleet runs a command of the fleet.
func (s *site) fleet(args ...string) string {
	s.t.Helper()
	return s.culprit(append(append([]string{"fleet"}, args...), "--servers", servers, "--credentials", s.nkey("operator"))...)
}

// nkey is the file with the credentials of a user of the server.
func (s *site) nkey(user string) string { return filepath.Join(s.Dir, user+".nk") }

// publish signs and publishes a set.
func (s *site) publish(name, text string, more ...string) string {
	s.t.Helper()
	return s.fleet(append([]string{"publish", s.Write(name+".yaml", text), "--key", s.key, "--wait", "0s"}, more...)...)
}

// block is the fleet in the configuration of the host.
func (s *site) block(accept string) string {
	return s.blockOf("web1", accept)
}

func (s *site) blockOf(host, accept string) string {
	return fmt.Sprintf("fleet: {servers: [%q], host: %s, credentials: %s, accept: [%s], keys: [%q]}\n", servers, host, s.nkey(host), accept, s.public)
}

// read reads a file of the site.
func (s *site) read(path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}

// logged waits until the daemon has logged a message about a set, with some text.
func logged(d *harness.Daemon, message, set, text string) {
	d.T.Helper()
	harness.Eventually(d.T, fmt.Sprintf("it logs %q of %s with %q", message, set, text), func() error {
		for line := range strings.Lines(d.Output.String()) {
			var l struct{ Message, Set string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Message == message && l.Set == set && strings.Contains(line, text) {
				return nil
			}
		}
		return os.ErrNotExist
	})
}

const (
	inForce = "a set of the fleet is in force"
	back    = "a set of the fleet was taken back"
	refused = "a set of the fleet was refused"
)

// A rule of the fleet is put in force without a moment in which the host's own rules are not, its hits name set and version; it is replaced,
// kept over a restart without the server, and taken back when that is signed.
func TestSets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := s.Firewall()
	config, evidence := s.Configure(harness.LongWindow + harness.Badzone + s.block("rules, lists"))
	d := s.HuntWith(config, evidence)
	sender := s.Sender(harness.NewUID())
	stop := sender.AskOn()
	list := s.Write("feed.txt", "listed.test # bad\n")
	s.publish("zones", "rules: [{name: worse, string: WORSE}]", "--version-number", "1")
	logged(d, inForce, "zones", `"version":1`)
	s.publish("zones", fmt.Sprintf("rules: [{name: worse, string: WORSE}, {name: feed, list: %s}]", list), "--version-number", "2")
	logged(d, inForce, "zones", `"version":2`)
	if sent, hits := stop(d); hits != sent {
		t.Errorf("%d of %d packets of the host's own rule were hits while sets came", hits, sent)
	}
	sender.Ask("a.worse.test")
	if hit := d.Hit("a.worse.test"); hit.Rule.Name != "worse" || hit.Rule.Ruleset != "zones" || hit.Rule.Version != "2" || hit.Culprit.Capture == nil {
		t.Errorf("the hit is %+v", hit)
	}
	sender.Ask("x.listed.test")
	if hit := d.Hit("x.listed.test"); hit.Rule.Ruleset != "zones" || hit.Threat == nil || hit.Threat.Feed.Name != "feed.txt" {
		t.Errorf("the hit of the list is %+v", hit)
	}
	if out := s.culprit("show", d.Hit("a.worse.test").Event.ID, "--evidence", d.Evidence); !strings.Contains(out, "worse (version 2 of the fleet's set zones)") {
		t.Errorf("show does not say where the rule is from:\n%s", out)
	}
	// What looks at the host's rules from outside knows those of the fleet.
	if out := s.culprit("rules", "status", "-c", config); !strings.Contains(out, "worse") {
		t.Errorf("the status of the rules is\n%s", out)
	}
	if out := s.culprit("lists", "test", "-c", config, "x.listed.test"); !strings.Contains(out, "feed.txt:1") {
		t.Errorf("the lists that mean the name are\n%s", out)
	}

	// Without the server, after a restart.
	d.Stop()
	s.Unchanged(before, "after the hunt")
	s.end()
	d = s.HuntWith(config, evidence)
	logged(d, inForce, "zones", `"version":2`)
	sender = s.Sender(harness.NewUID())
	sender.Ask("b.worse.test")
	sender.Ask("y.listed.test")
	if hit := d.Hit("b.worse.test"); hit.Rule.Version != "2" {
		t.Errorf("the hit is %+v", hit)
	}
	d.Hit("y.listed.test")

	s.serve()
	s.fleet("withdraw", "zones", "--key", s.key, "--wait", "0s")
	logged(d, back, "zones", `"version":2`)
	sender.Ask("c.worse.test")
	sender.Ask("z.listed.test")
	sender.Ask("last.badzone.test")
	d.Hit("last.badzone.test")
	for _, hit := range d.Hits() {
		if name := hit.DNS.Question.Name; name == "c.worse.test" || name == "z.listed.test" {
			t.Errorf("%s is a hit of a rule that was taken back", name)
		}
	}
	d.Stop()
	s.Unchanged(before, "after the hunt")
}

// A set that was withdrawn and removed while a host was away is taken back when the host comes; whoever has the servers cannot bring it back.
func TestTidied(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	config, evidence := s.Configure(harness.LongWindow + harness.Badzone + s.block("rules"))
	d := s.HuntWith(config, evidence)
	s.publish("zones", "rules: [{name: worse, string: WORSE}]", "--version-number", "1")
	logged(d, inForce, "zones", `"version":1`)
	d.Stop()

	op := s.operator()
	places := op.Name.Sets()
	was, err := op.Last(t.Context(), places.Stream(), places.Subject("zones"))
	if err != nil {
		t.Fatal(err)
	}
	if out := s.fleet("tidy", "--key", s.key, "--wait", "0s"); !strings.Contains(out, "nothing to remove") {
		t.Errorf("tidy says %s", out)
	}
	s.fleet("withdraw", "zones", "--key", s.key, "--wait", "0s")
	if out := s.fleet("tidy", "--key", s.key, "--wait", "0s"); !strings.Contains(out, "takes 1 set back") || !strings.Contains(out, "removed 1 set from the servers") {
		t.Errorf("tidy says %s", out)
	}
	if out := s.fleet("sets"); strings.Contains(out, "zones") || !strings.Contains(out, sets.EndedName) {
		t.Errorf("the sets are\n%s", out)
	}
	if out := s.fleet("sets", sets.EndedName); !strings.Contains(out, "zones, up to version ") {
		t.Errorf("the set that takes back is\n%s", out)
	}

	d = s.HuntWith(config, evidence)
	logged(d, back, "zones", `"version":1`)
	if err := op.Put(t.Context(), places, "zones", was.Data); err != nil {
		t.Fatal(err)
	}
	s.publish("later", "rules: [{name: later, string: LATER}]")
	logged(d, inForce, "later", "")
	sender := s.Sender(harness.NewUID())
	sender.Ask("a.worse.test")
	sender.Ask("last.badzone.test")
	d.Hit("last.badzone.test")
	for _, hit := range d.Hits() {
		if hit.DNS.Question.Name == "a.worse.test" {
			t.Errorf("a hit of a rule that was taken back: %+v", hit.Rule)
		}
	}
	d.Stop()
	d = s.HuntWith(config, evidence) // which has forgotten the set, but not that
	logged(d, refused, "zones", "were taken back")
	d.Stop()
}

// A host needs no rules of its own; those that it has come first, also when they come later.
func TestSetsAndReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := s.Firewall()
	d := s.Hunt(harness.LongWindow + "rules: []\n" + s.block("rules"))
	s.publish("zones", "rules: [{name: worse, string: WORSE}]", "--version-number", "1")
	logged(d, inForce, "zones", "")
	sender := s.Sender(harness.NewUID())
	sender.Ask("a.worse.test")
	d.Hit("a.worse.test")
	again := func(rules, message, set string) {
		t.Helper()
		s.ConfigureAgain(d, harness.LongWindow+rules+s.block("rules"))
		d.Signal(syscall.SIGHUP)
		logged(d, message, set, "")
	}
	again("rules: [{name: worse, string: OTHER}]\n", refused, "zones")
	sender.Ask("b.worse.test")
	sender.Ask("b.other.test")
	if hit := d.Hit("b.other.test"); hit.Rule.Name != "worse" || hit.Rule.Ruleset != "" {
		t.Errorf("the hit is of %+v", hit.Rule)
	}
	// The set is there again when there is room for it.
	count := strings.Count(d.Output.String(), inForce)
	s.ConfigureAgain(d, harness.LongWindow+"rules: []\n"+s.block("rules"))
	d.Signal(syscall.SIGHUP)
	harness.Eventually(t, "the set is in force again", func() error {
		if strings.Count(d.Output.String(), inForce) == count {
			return os.ErrNotExist
		}
		return nil
	})
	sender.Ask("c.worse.test")
	d.Hit("c.worse.test")
	for _, hit := range d.Hits() {
		if hit.DNS.Question.Name == "b.worse.test" {
			t.Errorf("a hit of a set that had to go: %+v", hit)
		}
	}
	d.Stop()
	s.Unchanged(before, "after the hunt")
}

// ConfigureAgain writes another configuration in the place of a daemon's.
func (s *site) ConfigureAgain(d *harness.Daemon, text string) {
	s.t.Helper()
	text += fmt.Sprintf("\nlog: {format: json, level: debug}\nevidence: {dir: %s}\n", d.Evidence)
	if err := os.WriteFile(d.Config, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// What culprit signs the tool minisign verifies, and the other way round.
func TestMinisign(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "zones.yaml"), []byte("rules: [{name: worse, string: WORSE}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(harness.Programs.Culprit, "fleet", "keygen", "--no-password", "ours")
	run(harness.Programs.Culprit, "fleet", "sign", "zones.yaml", "--key", "ours")
	run("minisign", "-V", "-m", "zones.json", "-p", "ours.pub")
	run("minisign", "-G", "-W", "-s", "theirs", "-p", "theirs.pub")
	run(harness.Programs.Culprit, "fleet", "sign", "zones.yaml", "--key", "theirs")
	run("minisign", "-V", "-m", "zones.json", "-p", "theirs.pub")
	// By the tool itself, with the hash that it takes by itself.
	run("minisign", "-S", "-s", "theirs", "-m", "zones.json")
	var signed sets.Signed
	var err error
	if signed.Set, err = os.ReadFile(filepath.Join(dir, "zones.json")); err != nil {
		t.Fatal(err)
	}
	signature, err := os.ReadFile(filepath.Join(dir, "zones.json.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	signed.Signature = string(signature)
	key, err := minisign.PublicKeyFromFile(filepath.Join(dir, "theirs.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (sets.Trust{Fleet: "culprit", Keys: []minisign.PublicKey{key}}).Verify("zones", signed); err != nil {
		t.Error(err)
	}
}

// Who publishes is told which hosts took a set, and which refused it and why; a hunt shows each hit of each host, and ends.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.Hunt(harness.LongWindow + harness.Badzone + s.block("rules"))
	s.ask("web1 is there", func(out string) bool { return strings.Contains(out, "in force on 1 host\n") },
		"publish", s.Write("zones.yaml", "rules: [{name: worse, string: WORSE}]"), "--key", s.key, "--wait", "2s")
	out := s.fleet("publish", s.Write("twice.yaml", "rules: [{name: badzone, string: WORST}]"), "--key", s.key, "--wait", "30s")
	if want := "web1  refused: the configuration of this host has a rule badzone of its own"; !strings.Contains(out, "in force on 0 hosts\n") || !strings.Contains(out, want) {
		t.Errorf("publish says\n%s\nwant %q", out, want)
	}
	if out := s.fleet("sets", "twice"); !strings.Contains(out, "on web1    refused: the configuration") || !strings.Contains(out, "rule       badzone: string WORST") {
		t.Errorf("sets says\n%s", out)
	}
	if out := s.fleet("sets"); !regexp.MustCompile(`(?m)^zones +\d{14} +until withdrawn +1 rule +all hosts +1 +0$`).MatchString(out) {
		t.Errorf("sets says\n%s", out)
	}
	// A host with another name takes the place of none.
	other := s.Write("elsewhere.yaml", "rules: [{name: elsewhere, string: ELSEWHERE}]")
	if out := s.fleet("publish", other, "--key", s.key, "--hosts", "db*", "--wait", "30s"); !strings.Contains(out, "in force on 0 hosts\n") {
		t.Errorf("publish says\n%s", out)
	}

	hunt := s.StartCommandAs(0, exec.Command(harness.Programs.Culprit, "fleet", "hunt", "--string", "HUNTED", "--for", "1h", "--name", "hunt", "--withdraw", "--key", s.key,
		"--servers", servers, "--credentials", s.nkey("operator")))
	hunt.Said("web1: in force", 1)
	sender := s.Sender(harness.NewUID())
	sender.Ask("x.hunted.test")
	d.Hit("x.hunted.test")
	hunt.Said("asks x.hunted.test A", 1)
	hunt.Signal(syscall.SIGINT)
	if code := hunt.Wait(); code != 0 {
		t.Errorf("the hunt ended with %d: %s", code, hunt.Output)
	}
	logged(d, back, "hunt", "")
	hunt.Said("taken back by 1 host", 1)
	d.Stop()
}

// ask runs a command of the fleet until it says what is expected.
func (s *site) ask(what string, expected func(string) bool, args ...string) {
	s.t.Helper()
	harness.Eventually(s.t, what, func() error {
		if out := s.fleet(args...); !expected(out) {
			return errors.New(out)
		}
		return nil
	})
}
