package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"culprit/internal/event"
)

// notes is evidence that only remembers what it gets.
type notes struct {
	hits     []*event.Hit
	captures []event.Capture
	losses   []event.Loss
}

func (n *notes) Hit(h *event.Hit)                            { n.hits = append(n.hits, h) }
func (n *notes) Back(*event.Hit, string)                     {}
func (n *notes) Repeated(string, int)                        {}
func (n *notes) Capture(c event.Capture)                     { n.captures = append(n.captures, c) }
func (n *notes) Trace(event.Trace)                           {}
func (n *notes) Program(event.Program)                       {}
func (n *notes) Lost(l event.Loss)                           { n.losses = append(n.losses, l) }
func (n *notes) Create(*event.Trace) (io.WriteCloser, error) { return nil, errors.New("no files") }
func (n *notes) Snapshot(event.Snapshot)                     {}
func (n *notes) Executable(string) (event.File, bool)        { return event.File{}, false }
func (n *notes) KeepExecutable(io.Reader, int64) (string, event.File, error) {
	return "", event.File{}, errors.New("no files")
}
func (n *notes) Room() error { return errors.New("no room") }

func recorderWith(log io.Writer) (*recorder, *notes) {
	n := new(notes)
	seen := event.Capture{Observer: &event.Observer{Version: "1.0"}, Host: &event.Host{Hostname: "h"}}
	seen.Culprit.Strace, seen.Culprit.Config = "6.1", "rules: []"
	return newRecorder(n, n, noCounts(), slog.New(slog.NewTextHandler(log, nil)), seen), n
}

// In a flood every hit is recorded but only some are logged; a later line says how many were
// not.
func TestHitsInAFlood(t *testing.T) {
	t.Parallel()
	const flood = 1000
	var log bytes.Buffer
	r, n := recorderWith(&log)
	hit := &event.Hit{Rule: event.Rule{Name: "badzone"}}
	for range flood {
		r.Hit(hit)
	}
	lines := strings.Count(log.String(), "msg=hit")
	if len(n.hits) != flood || lines == 0 || lines > flood/2 {
		t.Fatalf("%d hits recorded, %d logged, of %d", len(n.hits), lines, flood)
	}
	r.limit.SetLimit(rate.Inf) // the flood is over
	r.Hit(hit)
	if want := fmt.Sprintf("not_logged_before=\"%d hits\"", flood-lines); !strings.Contains(log.String(), want) {
		t.Errorf("the last line does not say %s", want)
	}
}

// Each capture says how it was obtained.
func TestCapturesAreStamped(t *testing.T) {
	t.Parallel()
	r, n := recorderWith(io.Discard)
	r.Capture(event.Capture{Culprit: event.CaptureDetail{Level: 2}})
	c := n.captures[0]
	if c.Observer.Version != "1.0" || c.Host.Hostname != "h" || c.Culprit.Strace != "6.1" || c.Culprit.Config == "" || c.Culprit.Level != 2 {
		t.Errorf("%+v", c)
	}
}

// A loss is counted, recorded and logged; a mere verdict is not a warning.
func TestLosses(t *testing.T) {
	t.Parallel()
	for code, level := range map[event.LossCode]string{event.LossKernel: "WARN", event.LossUnverified: "INFO"} {
		var log bytes.Buffer
		r, n := recorderWith(&log)
		packets{recorder: r}.Lost(event.NewLoss(code, "", 3))
		if len(n.losses) != 1 || !strings.Contains(log.String(), "level="+level+" msg=lost") || !strings.Contains(log.String(), "culprit.count=3") {
			t.Errorf("%s: recorded %+v, logged %s", code, n.losses, &log)
		}
	}
}
