package main

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// snapshot explains a snapshot by itself.
func (s detailPrinter) snapshot(one *event.Snapshot) error {
	d := &one.Culprit
	s.title("snapshot %s", one.Event.ID)
	s.line("capture", "%s", d.Capture.ID)
	if d.Hit != nil {
		s.line("hit", "%s", d.Hit.ID)
	}
	if d.Trace != nil {
		s.line("trace", "%s", d.Trace.ID)
	}
	s.seen(one)
	return nil
}

// seen prints what a process was in a snapshot.
func (s detailPrinter) seen(one *event.Snapshot) {
	s.title("%s", words.SnapshotTitle)
	s.line("taken", "%s; the program stood still for %s", text.Time(one.Timestamp), time.Duration(one.Event.Duration).Round(10*time.Microsecond))
	for _, f := range words.Snapshot(one) {
		s.line(f.Key, "%s", f.Value)
	}
}

// snapshotOf prints the snapshot that a hit or a trace has, if it has one.
func (s detailPrinter) snapshotOf(r *event.Reference) error {
	if r == nil {
		return nil
	}
	one, err := s.r.Snapshot(r.ID)
	if err == nil && one != nil {
		s.seen(one)
		s.line("snapshot", "%s", one.Event.ID)
	}
	return err
}
