package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// beside makes another host, from whose namespace the server of the site is reached at the same address.
func (s *site) beside() *harness.Host {
	s.t.Helper()
	h := harness.NewHost(s.t, "")
	var l net.Listener
	var err error
	h.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:4222") })
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	s.t.Cleanup(func() { cancel(); l.Close(); all.Wait() })
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				to, err := s.Dial("tcp", "127.0.0.1:4222")
				if err != nil {
					from.Close()
					return
				}
				end := func() { from.Close(); to.Close() }
				defer context.AfterFunc(ctx, end)()
				var both sync.WaitGroup
				both.Go(func() { io.Copy(to, from); end() })
				io.Copy(from, to)
				end()
				both.Wait()
			})
		}
	})
	return h
}

// look runs a command of those who look at the fleet, over the mirror.
func (s *site) look(mirror string, args ...string) harness.Result {
	s.t.Helper()
	return s.Culprit(append(append([]string{"fleet"}, args...), "--servers", servers, "--credentials", s.nkey("reader"), "--mirror", mirror)...)
}

// A lookup on one of two hosts is seen in the mirror and on the pages of serve --fleet, with its proof, and, once it was
// fetched with the rights of a reader, with its trace. A host that gives no bundles says so.
func TestSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s.beside()
	const short = "capture: {levels: [{hits: 1, processes: 50, window: 5s, strings: 512}]}\n"
	config, evidence := s.Configure(short + harness.Badzone + strings.Replace(s.blockOf("web1", ""), "fleet: {", "fleet: {bundles: request, ", 1))
	first := s.HuntWith(config, evidence)
	config, evidence = other.Configure(short + harness.Badzone + s.blockOf("web2", ""))
	second := other.HuntWith(config, evidence)

	mirror := filepath.Join(s.Dir, "mirror")
	page := s.browse(mirror)

	sender := first.Captured(harness.NewUID()) // so that the next question is proven, however busy the machine is
	sender.Ask("seen.badzone.test")
	other.Sender(harness.NewUID()).Ask("seen.badzone.test")
	var hit event.Hit
	harness.Eventually(t, "the proof on the host", func() error {
		if hit = first.Hit("seen.badzone.test"); hit.Culprit.Proof == nil {
			return errors.New("there is none")
		}
		return nil
	})
	sender.Signal(syscall.SIGKILL) // its capture ends with it
	sender.Wait()
	third := second.Hit("seen.badzone.test")
	page.shows("/", hit.Event.ID, third.Event.ID, "2 of 2 hosts alive")
	page.shows("/hits/"+hit.Event.ID, "web1", "web2 (1 hit)", "culprit fleet fetch")
	page.shows("/hosts", "web1", "web2", "request", "never")

	// The mirror has what the host has.
	harness.Eventually(t, "the proof in the mirror", func() error {
		out := s.look(mirror, "hits", "--json", "--host", "web1", "--name", "seen.badzone.test").Must(t)
		var mirrored event.Hit
		if err := json.Unmarshal([]byte(out), &mirrored); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if mirrored.Culprit.Proof == nil || mirrored.Host.Name != "web1" || mirrored.Culprit.Proof.Line != hit.Culprit.Proof.Line || mirrored.Process.PID != hit.Process.PID {
			return fmt.Errorf("the hit is %s", out)
		}
		return nil
	})

	if out := s.look(mirror, "fetch", hit.Event.ID, "--wait", "1m").Must(t); !strings.Contains(out, "of host web1") {
		t.Errorf("fetch says %s", out)
	}
	if out := s.look(mirror, "show", hit.Event.ID).Must(t); !strings.Contains(out, "what the thread did around line") {
		t.Errorf("the trace is not shown: %s", out)
	}
	page.shows("/traces/"+hit.Culprit.Proof.Trace.ID, "seen")
	s.look(mirror, "fetch", third.Event.ID).Fails(t, 1, "web2 never gives bundles")
	if found := s.look(mirror, "hits", "--host", "evil").Must(t); strings.Contains(found, "badzone.test") {
		t.Errorf("another host has hits: %s", found)
	}
	page.end()
	first.Stop()
	second.Stop()

	// Without servers and daemons the mirror is still there.
	s.end()
	if r := s.look(mirror, "hits"); r.Code != 0 || !strings.Contains(r.Out, third.Event.ID) || !strings.Contains(r.Errors, "cannot be asked") {
		t.Errorf("without servers: %+v", r)
	}
}
