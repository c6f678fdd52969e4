package metrics

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"culprit/internal/event"
)

// TestSendersAreBounded: one user with very many containers, then very many users: each is counted, but not all are
// told apart, and who was told apart stays so.
func TestSendersAreBounded(t *testing.T) {
	t.Parallel()
	s := newSenders(factory{prometheus.NewRegistry()})
	alice, web := &event.User{ID: "1000"}, &event.Container{ID: "1", Name: "web"}
	s.HitOf(&event.User{ID: "33"}, web)
	for i := range 2 * maxSendersOfUser {
		s.HitOf(alice, &event.Container{ID: fmt.Sprint("c", i)})
	}
	for i := range 2 * maxSenders {
		s.HitOf(&event.User{ID: fmt.Sprint(100000 + i)}, nil)
	}
	s.HitOf(&event.User{ID: "33"}, web)
	s.HitOf(nil, nil)
	s.HitOf(alice, &event.Container{ID: "made up", Claimed: true})
	for _, c := range []struct {
		uid, container string
		want           float64
	}{
		{"33", "web", 2},
		{"1000", "c0", 1},
		{"1000", "other", maxSendersOfUser},
		{"100000", "", 1},
		{"other", "other", 2*maxSenders - (maxSenders - 1 - maxSendersOfUser) + 2},
	} {
		if got := testutil.ToFloat64(s.hits.WithLabelValues(c.uid, c.container)); got != c.want {
			t.Errorf("user %s in %q has %v, want %v", c.uid, c.container, got, c.want)
		}
	}
	if n := testutil.CollectAndCount(s.hits); n > maxSenders+maxSenders/maxSendersOfUser+1 {
		t.Errorf("%d series", n)
	}
}
