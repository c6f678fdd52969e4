package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
)

// Who looks when somebody is heard finds what was written, although it may be heard before it is stored.
func TestChanges(t *testing.T) {
	t.Parallel()
	c := setUp(t, Plan{MaxBytes: 1 << 20})
	hosts := c.Name.Hosts()
	changed, err := c.Changes(t.Context(), hosts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		want := strconv.Itoa(i)
		if err := c.Publish(hosts.Subject("web1"), []byte(want)); err != nil {
			t.Fatal(err)
		}
		for found := false; !found; {
			select {
			case <-changed:
			case <-time.After(30 * time.Second):
				t.Fatalf("%s was not found", want)
			}
			m, err := c.Last(t.Context(), hosts.Stream(), hosts.Subject("web1"))
			if err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			found = m != nil && string(m.Data) == want
		}
	}
}

// Each key is told at once, and again at its own times, whatever else is heard meanwhile; all at the start, and when the connection is back.
func TestEcho(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		heard, connected, news := make(chan string), make(chan nats.Status), make(chan string)
		start := time.Now()
		told := map[string][]time.Duration{}
		go func() {
			time.Sleep(time.Hour)
			heard <- "web1"
			time.Sleep(4900 * time.Millisecond)
			heard <- "web2" // just before the first is told again
			time.Sleep(100 * time.Millisecond)
			heard <- "web2"
			time.Sleep(time.Hour)
			connected <- nats.CONNECTED
			time.Sleep(time.Hour)
			cancel()
		}()
		go func() {
			for {
				select {
				case key := <-news:
					told[key] = append(told[key], time.Since(start))
				case <-ctx.Done():
					return
				}
			}
		}()
		echo(ctx, heard, connected, news)
		synctest.Wait()
		after := func(begin time.Duration) (all []time.Duration) {
			for _, pause := range append([]time.Duration{0}, settle...) {
				begin += pause
				all = append(all, begin)
			}
			return all
		}
		want := map[string][]time.Duration{
			"web1": after(time.Hour),
			"web2": append([]time.Duration{time.Hour + 4900*time.Millisecond}, after(time.Hour+5*time.Second)...),
			"":     append(after(0), after(2*time.Hour+5*time.Second)...),
		}
		for key, all := range told {
			told[key] = slices.Compact(all) // two at one time
		}
		if d := cmp.Diff(want, told); d != "" {
			t.Error(d)
		}
	})
}

// Who does not read is told of each key once, in turn; however many are heard, only so many are kept.
func TestEchoUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard, news := make(chan string), make(chan string)
		go echo(ctx, heard, nil, news)
		for i := range 2 * maxHeard {
			heard <- strconv.Itoa(i)
			heard <- "0"
			time.Sleep(time.Microsecond)
		}
		told := map[string]int{}
		var first []string
		for range maxHeard + 1 {
			key := <-news
			told[key]++
			first = append(first, key)
		}
		if len(told) != maxHeard+1 {
			t.Errorf("%d keys were told", len(told))
		}
		if d := cmp.Diff([]string{"", "0", "1", "2"}, first[:4]); d != "" {
			t.Error(d)
		}
	})
}

// A member of a cluster that is behind gives older messages; a stream that was made anew has lower numbers, and later times. What the message
// brings itself is not the servers' word.
func TestSeen(t *testing.T) {
	t.Parallel()
	seen := Seen{}
	for i, tc := range []struct {
		sequence, second, want int
		forged                 bool
	}{
		{5, 10, 1, false}, {5, 10, 0, false}, {4, 9, -1, false}, {4, 10, -1, false}, {6, 10, 1, false}, {5, 10, -1, false}, {1, 11, 1, true}, {2, 10, 1, true}, {2, 10, 0, false}, {2, 12, 1, false},
	} {
		m := &nats.Msg{Header: nats.Header{}}
		if tc.forged {
			m.Header.Add(headerSequence, "99")
			m.Header.Add(headerTime, "2099-01-01T00:00:00Z")
		}
		m.Header.Add(headerSequence, strconv.Itoa(tc.sequence))
		m.Header.Add(headerTime, fmt.Sprintf("2026-01-01T00:00:%02dZ", tc.second))
		if got, err := seen.Compare("a", m); got != tc.want || err != nil {
			t.Errorf("message %d compares as %d, %v, want %d", i, got, err, tc.want)
		}
	}
	for _, h := range []nats.Header{{}, {headerSequence: {"1"}}, {headerSequence: {"1"}, headerTime: {"now"}}, {headerTime: {"2026-01-01T00:00:00Z"}}} {
		if _, err := seen.Compare("a", &nats.Msg{Header: h}); err == nil {
			t.Errorf("%v is taken", h)
		}
	}
}
