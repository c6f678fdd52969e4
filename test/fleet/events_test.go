package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culprit/test/harness"
)

// seen returns how often the fleet has seen each name that was asked for.
func (s *site) seen() (map[string]int, error) {
	out, err := s.Run(harness.Programs.Culprit, "fleet", "hits", "--json", "--servers", servers, "--credentials", s.nkey("reader"), "--mirror", filepath.Join(s.Dir, "mirror"))
	if err != nil {
		return nil, err
	}
	names := map[string]int{}
	for line := range strings.Lines(out) {
		var h struct {
			Host struct{ Name string }
			DNS  struct{ Question struct{ Name string } }
		}
		if err := json.Unmarshal([]byte(line), &h); err != nil || h.Host.Name != "web1" {
			return nil, fmt.Errorf("%w: not a hit of web1: %s", err, line)
		}
		names[h.DNS.Question.Name]++
	}
	return names, nil
}

// says returns what the host says of itself.
func (s *site) says() (st struct {
	Version, Kernel, Machine string
	Stopped                  bool
	Sequence                 uint64
	Waiting                  int64
	Rules                    []string
}, err error,
) {
	out, err := s.Run(harness.Programs.Culprit, "fleet", "hosts", "--json", "--servers", servers, "--credentials", s.nkey("reader"), "--mirror", filepath.Join(s.Dir, "mirror"))
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal([]byte(out), &st)
}

// All that a host finds is seen in its fleet, once, though it is killed in the middle, and the server is away meanwhile; and the
// fleet knows how the host is.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	config, evidence := s.Configure(harness.LongWindow + harness.Badzone + "fleet: {servers: [" + servers + "], host: web1, credentials: " + s.nkey("web1") + "}\n")
	uid := harness.NewUID()
	want := map[string]int{}
	var d *harness.Daemon
	ask := func(name string) {
		t.Helper()
		want[name]++
		s.Sender(uid).Ask(name)
		d.Hit(name)
	}
	arrive := func() {
		t.Helper()
		harness.Eventually(t, "the fleet sees all hits", func() error {
			got, err := s.seen()
			if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
				err = fmt.Errorf("it sees %v, want %v", got, want)
			}
			return err
		})
	}
	d = s.HuntWith(config, evidence)
	ask("a.badzone.test")
	arrive()
	harness.Eventually(t, "the host says how it is", func() error {
		st, err := s.says()
		if err == nil && (st.Stopped || st.Version == "" || st.Kernel == "" || st.Machine == "" || strings.Join(st.Rules, " ") != "badzone") {
			err = fmt.Errorf("it says %+v", st)
		}
		return err
	})
	s.end()
	d.AwaitLog("disconnected from the fleet: events wait")
	ask("b.badzone.test")
	d.Signal(syscall.SIGKILL)
	d.Wait()
	d.Gone()
	d = s.HuntWith(config, evidence) // without a server
	ask("c.badzone.test")
	s.serve()
	arrive()
	d.Stop()
	harness.Eventually(t, "the host says that it has stopped", func() error {
		st, err := s.says()
		if err == nil && !st.Stopped {
			err = errors.New("it does not")
		}
		return err
	})
}
