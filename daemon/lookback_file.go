package daemon

import (
	"io"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
	"culprit/sensor/lookback"
)

// back is a look-back whose file is open.
type back struct {
	sender lookback.Sender
	doc    event.Trace
	file   io.WriteCloser
	close  time.Time
}

// begin makes the file of a look-back, and writes what there is.
func (l *lookbacks) begin(a asked, s *lookback.Story) error {
	h, before := a.hit, a.before
	if err := l.evidence.Room(); err != nil {
		return err
	}
	capture := event.Reference{ID: h.Event.ID} // a hit without a capture stands for one
	if h.Culprit.Capture != nil {
		capture = *h.Culprit.Capture
	}
	b := &back{sender: a.sender, close: time.Now().Add(follow)}
	start := s.Time(s.First())
	b.doc = event.Trace{
		Timestamp: start,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &start},
		Rule:      &h.Rule, User: *h.Owner(), Process: l.program(*h.Process, s), Place: h.Place,
		Culprit: event.TraceDetail{
			Capture: capture, Hit: &event.Reference{ID: h.Event.ID}, State: event.StateRunning, FoundBy: event.FoundLookBack,
			FromStart: s.Started, LookBack: l.detail(s),
		},
	}
	d := &b.doc.Culprit
	if before.id != "" {
		d.LookBack.Continues, d.FromStart = &event.Reference{ID: before.id}, false
	}
	if !d.FromStart {
		d.AgeMS = max(0, float64(start.Sub(b.doc.Process.Start).Microseconds())/1000)
	}
	file, err := l.evidence.Create(&b.doc)
	if err != nil {
		return err
	}
	b.file = file
	for _, h := range append(a.more, h) {
		l.evidence.Back(h, b.doc.Event.ID)
	}
	header := strace.Header{Trace: &b.doc, Hit: h, Origin: words.Origin(h), LookBack: words.LookBack(d.LookBack)}
	b.write(header.Append(nil))
	b.append(s)
	l.evidence.Trace(b.doc)
	l.remember(b, s)
	l.open = append(l.open, b)
	return nil
}

// program describes the sender as far as its execve tells, if it had ended before anybody could look.
func (l *lookbacks) program(p event.Process, s *lookback.Story) event.Process {
	if p.Executable != "" || p.CommandLine != "" {
		return p
	}
	if path, args, ok := s.Program(); ok {
		p.Executable, p.CommandLine = path, proc.JoinArgs(args, proc.MaxCommandLine)
	}
	if p.Parent == nil && len(s.Processes) > 1 {
		if parent, err := l.fs.Describe(s.Processes[1].PID, l.users); err == nil && parent.EntityID == s.Processes[1].String() {
			p.Parent = &parent
		}
	}
	return p
}

func (l *lookbacks) detail(s *lookback.Story) *event.LookBack {
	d := &event.LookBack{
		Since: s.Horizon, TurnedOver: s.TurnedOver, Older: s.Older, Calls: len(s.Events), LeftOut: s.LeftOut, Overwritten: s.Overwritten,
	}
	for _, id := range s.Processes[1:] {
		d.Parents = append(d.Parents, event.Process{PID: id.PID, EntityID: id.String(), Start: proc.StartTime(id.Start)})
	}
	return d
}

// remember notes up to when the look-back goes.
func (l *lookbacks) remember(b *back, s *lookback.Story) {
	if len(l.latest) >= maxLatest {
		clear(l.latest) // some calls may then be in two look-backs
	}
	l.latest[b.sender.ID] = latest{s.Until, b.doc.Event.ID}
	b.sender.After = s.Until
}

// close adds the rest of a look-back, and closes its file.
func (l *lookbacks) close(b *back, s *lookback.Story) {
	d := &b.doc.Culprit
	b.append(s)
	d.LookBack.Calls += len(s.Events)
	d.LookBack.LeftOut += s.LeftOut
	d.LookBack.Overwritten += s.Overwritten
	d.State, d.EndedBecause = event.StateEnded, &event.Ended{Code: event.EndedLookBack}
	if s.Horizon.After(s.Time(b.sender.After)) {
		d.EndedBecause.Code = event.EndedLookBackFull
	}
	if latest := l.latest[b.sender.ID]; latest.id == b.doc.Event.ID {
		l.remember(b, s)
	}
	footer := strace.Footer{Ended: words.TraceEnded(d.EndedBecause), ExitCode: b.doc.Process.ExitCode}
	b.write(footer.Append(nil))
	if err := b.file.Close(); err != nil {
		d.EndedBecause = &event.Ended{Code: event.EndedNotWritten, Detail: err.Error()}
	}
	b.doc.Event.Finish(time.Now())
	l.evidence.Trace(b.doc)
}

// append adds the calls of a story.
func (b *back) append(s *lookback.Story) {
	var lines []byte
	for i := range s.Events {
		lines = s.Append(lines, &s.Events[i])
	}
	if code, ok := s.Exit(b.sender.ID); ok {
		b.doc.Process.ExitCode = &code
	}
	b.write(lines)
}

// write writes to the file. If the disk is full the file lacks it, as that of any trace does.
func (b *back) write(lines []byte) {
	n, err := b.file.Write(lines)
	b.doc.File.Size += int64(n)
	if err != nil {
		b.doc.Culprit.Lost += int64(len(lines) - n)
		b.doc.Culprit.Truncated = true
	}
}
