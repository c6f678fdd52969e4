package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/internal/event"
	"culprit/test/harness"
)

// A server that is away for so long that not all has room on the host: what was kept arrives once and in order; what was not is counted,
// and whoever looks is told, even if nothing more happens on the host.
func TestServerAwayForLong(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	socket := filepath.Join(s.Dir, "metrics.sock")
	config, evidence := s.Configure(harness.LongWindow + harness.Badzone + fmt.Sprintf("metrics: {listen: \"unix:%s\"}\n", socket) +
		strings.Replace(s.block(""), "fleet: {", "fleet: {max_waiting: 256KiB, ", 1))
	d := s.HuntWith(config, evidence)
	metric := func(name string) uint64 {
		t.Helper()
		text := s.Must(t, "curl", "-sS", "--unix-socket", socket, "http://culprit/metrics")
		found := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("there is no %s:\n%s", name, text)
		}
		n, err := strconv.ParseUint(found[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sender := s.Sender(harness.NewUID())
	sender.Ask("before.badzone.test")
	d.Hit("before.badzone.test")
	harness.Eventually(t, "the fleet sees the first hit", func() error {
		names, err := s.seen()
		if err == nil && names["before.badzone.test"] != 1 {
			err = fmt.Errorf("it sees %v", names)
		}
		return err
	})

	s.end()
	d.AwaitLog("disconnected from the fleet: events wait")
	stop := sender.AskOn()
	harness.Eventually(t, "more events than have room", func() error {
		if kept, lost := metric("culprit_fleet_waiting"), metric("culprit_fleet_dropped_total"); lost < kept || kept == 0 {
			return fmt.Errorf("%d wait, %d have no room", kept, lost)
		}
		return nil
	})
	if sent, hits := stop(d); hits != sent+1 { // and the one before
		t.Fatalf("%d of %d hits on the host", hits, sent+1)
	}

	s.serve()
	stream, err := s.operator().JS.Stream(t.Context(), "culprit_events")
	if err != nil {
		t.Fatal(err)
	}
	mirror := filepath.Join(s.Dir, "mirror")
	// Proofs that come all at once may find no room even now: so all that is said is compared until it agrees.
	harness.Within(t, fleet.Silent, "all that was kept arrives, and what was not is told everywhere", func() error {
		lost := metric("culprit_fleet_dropped_total")
		numbers, names, told, err := stored(t.Context(), stream)
		if err != nil {
			return err
		}
		if !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
			t.Fatalf("the events did not come once and in order: %v", numbers)
		}
		slices.Sort(names)
		if len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Fatalf("a hit came twice: %v", names)
		}
		last := numbers[len(numbers)-1]
		if waiting := metric("culprit_fleet_waiting"); waiting > 0 || uint64(len(numbers))+lost != last || told != lost || len(names) < 2 {
			return fmt.Errorf("%d events of %d arrived, %d wait, %d were lost; told: %d; names: %v", len(numbers), last, waiting, lost, told, names)
		}
		var h struct{ Lost uint64 }
		if out := s.look(mirror, "hosts", "--json").Must(t); json.Unmarshal([]byte(out), &h) != nil || h.Lost != lost {
			return fmt.Errorf("the host says that it lost %d, want %d: %s", h.Lost, lost, out)
		}
		if r := s.look(mirror, "hits"); !strings.Contains(r.Errors, fmt.Sprintf("not in the evidence: %d events not sent to the fleet", lost)) {
			return fmt.Errorf("below the hits there is no word of %d lost events: %s", lost, r.Errors)
		}
		if out := s.look(mirror, "losses").Must(t); !regexp.MustCompile(`web1 +\d+ +events not sent to the fleet`).MatchString(out) {
			return fmt.Errorf("the losses do not tell events that web1 lost: %s", out)
		}
		return nil
	})

	sender.Ask("after.badzone.test")
	d.Hit("after.badzone.test")
	harness.Eventually(t, "it goes on", func() error {
		names, err := s.seen()
		if err == nil && (names["after.badzone.test"] != 1 || names["before.badzone.test"] != 1) {
			err = errors.New("the hits before and after do not both come once")
		}
		return err
	})
	d.Stop()
}

// stored returns the numbers of the events in the stream, as they come there; the names of hits; and how many events are told as lost.
func stored(ctx context.Context, stream jetstream.Stream) (numbers []uint64, names []string, lost uint64, err error) {
	losses := map[string]uint64{}
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	for at := info.State.FirstSeq; at <= info.State.LastSeq; at++ {
		m, err := stream.GetMsg(ctx, at)
		if err != nil {
			return nil, nil, 0, err
		}
		for line := range strings.Lines(string(m.Data)) {
			var e struct {
				Event struct {
					ID       string
					Sequence uint64
					Action   string
				}
				DNS     struct{ Question struct{ Name string } }
				Culprit struct {
					Code  event.LossCode
					Count uint64
				}
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return nil, nil, 0, fmt.Errorf("%w: %s", err, line)
			}
			numbers = append(numbers, e.Event.Sequence)
			switch {
			case e.Event.Action == event.ActionHit:
				names = append(names, e.DNS.Question.Name)
			case e.Culprit.Code == event.LossUnsentFleet:
				losses[e.Event.ID] = e.Culprit.Count
			}
		}
	}
	for _, n := range losses {
		lost += n
	}
	return numbers, names, lost, nil
}
