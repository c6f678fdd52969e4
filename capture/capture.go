// Package capture straces the processes of a UID: a bounded campaign that a hit
// starts and further hits intensify.
//
// One goroutine, the controller's, owns every campaign. A finder tells it of
// processes, tracers tell it how their straces fare, and it decides: trace this
// process, leave that one, raise the level, end. It waits for nobody.
package capture

import (
	"culprit/capture/tracer"
	"culprit/internal/event"
)

// Recorder learns what captures do and keeps it. Its methods may be called from
// several goroutines and must not wait for anything slow.
type Recorder interface {
	// Hit is told of each hit, with the capture it started or joined, or why none.
	// Nobody changes the hit any more.
	Hit(*event.Hit)
	// Capture and Trace are told of each new or changed capture and trace.
	Capture(event.Capture)
	Trace(event.Trace)
	// Program is told of each process that lived under a captured UID, at its end or
	// at the end of the capture.
	Program(event.Program)
	tracer.Files
}
