package capture

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// However many users there are, so many captures run at once, and the hits of the others
// say why they have none.
func TestCapturesAreBounded(t *testing.T) {
	t.Parallel()
	m := &memory{captures: map[string]event.Capture{}}
	c := config.Default()
	k := New(&c, strace.Program{}, m, nil, nil, slog.New(slog.DiscardHandler))
	for i := range maxCaptures + 7 {
		hit{&event.Hit{User: &event.User{ID: fmt.Sprint(64_000_000 + i)}}}.handle(k)
	}
	if len(k.campaigns) != maxCaptures || len(m.captures) != maxCaptures {
		t.Errorf("%d captures, %d recorded", len(k.campaigns), len(m.captures))
	}
	if h := m.hits[len(m.hits)-1]; h.Culprit.Capture != nil || !strings.Contains(words.NoCapture(h.Culprit.NoCapture), "captures were running") {
		t.Errorf("a hit beyond: %+v", h.Culprit)
	}
	hit{&event.Hit{User: &event.User{ID: "64000000"}}}.handle(k)
	if h := m.hits[len(m.hits)-1]; h.Culprit.Capture == nil {
		t.Errorf("a further hit of one that is captured: %+v", h.Culprit)
	}
}

// A hit is not changed by whoever gets it: what is known of it more stands in a copy.
func TestHitIsNotChanged(t *testing.T) {
	t.Parallel()
	m := &memory{captures: map[string]event.Capture{}}
	cfg := config.Default()
	c := New(&cfg, strace.Program{}, m, nil, nil, slog.New(slog.DiscardHandler))
	for _, user := range []*event.User{{ID: "64202"}, nil} {
		h := &event.Hit{User: user}
		hit{h}.handle(c)
		if h.Culprit.Capture != nil || h.Culprit.NoCapture != nil {
			t.Errorf("the hit was changed: %+v", h.Culprit)
		}
		if told := m.hits[len(m.hits)-1].Culprit; (told.Capture != nil) != (user != nil) || (told.NoCapture != nil) != (user == nil) {
			t.Errorf("recorded: %+v", told)
		}
	}
}
