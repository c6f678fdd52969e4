// Package capture straces the processes of a UID, on the host or in one container. A hit starts a capture, further hits
// intensify it, and it has bounds.
//
// A capture that runs is a campaign. One goroutine, the controller's, owns all campaigns. A
// finder tells it of processes, and tracers tell it of their straces. It decides which
// processes to trace, when to raise the level, and when to end. It waits for nobody.
package capture

import (
	"culprit/capture/finder"
	"culprit/capture/snapshot"
	"culprit/capture/tracer"
	"culprit/internal/event"
)

// Owner says whose processes are captured.
type Owner = finder.Owner

// Recorder keeps what captures do. Its methods may be called from several goroutines, and
// must not wait for anything slow.
type Recorder interface {
	// Hit is told of each hit, with the capture that it started or joined, or why there is
	// none. Nobody changes the hit any more.
	Hit(*event.Hit)
	// Capture and Trace are told of each capture and trace that is new or has changed.
	Capture(event.Capture)
	Trace(event.Trace)
	// Program is told of each process that a captured user had, when that or the capture
	// ends.
	Program(event.Program)
	tracer.Files
	// What processes were that were frozen when they sent a packet is kept, too.
	snapshot.Store
}
