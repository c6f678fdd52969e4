package report

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// snapshot shows what a program was when it sent the first packet.
type snapshot struct {
	Title string
	Facts []fact
}

func snapshotOf(s *event.Snapshot) snapshot {
	v := snapshot{Title: describe(&s.Process.Process)}
	v.Facts = append(v.Facts, fact{"taken", text.Time(s.Timestamp) + ", it stood still for " + words.Length(time.Duration(s.Event.Duration))})
	for _, f := range words.Snapshot(s) {
		v.Facts = append(v.Facts, fact{f.Key, clip(f.Value, maxFact)})
	}
	return v
}
