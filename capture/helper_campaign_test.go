package capture

import (
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

var ladder = []config.Level{
	{Hits: 1, Processes: 2, Window: 10 * time.Second, Strings: 32},
	{Hits: 3, Processes: 4, Window: time.Minute, Strings: 512},
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }

func aHit() *event.Hit {
	return &event.Hit{Rule: event.Rule{Name: "badzone"}, Event: event.Meta{ID: event.NewID()}}
}

func aCapture() *campaign {
	return newCampaign(finder.Owner{UID: 64201}, event.User{ID: "64201"}, config.ScopeUser, ladder, 5*time.Second, epoch)
}

// stops is a strace that keeps why it was told to detach.
type stops chan event.Ended

func (s stops) Detach(why event.Ended) {
	select {
	case s <- why:
	default:
	}
}

func (t *trace) stops() stops { return t.strace.(stops) }

// addTrace adds a trace whose strace runs.
func addTrace(c *campaign, pid int) *trace {
	t := &trace{campaign: c, id: proc.ID{PID: pid}, strace: make(stops, 1)}
	c.traces[t.id] = t
	return t
}
