package event

// An UnstoppedCode says why the sensor did not stop the sender of a packet. It is also a label of
// a metric.
type UnstoppedCode string

// Why a sender was not stopped.
const (
	UnstoppedUncertain UnstoppedCode = "uncertain" // somebody else may have been running
	UnstoppedTraced    UnstoppedCode = "traced"    // a tracer was on it already
	UnstoppedSpared    UnstoppedCode = "spared"    // PID 1, culprit itself, or a user who is never stopped
	UnstoppedUnleased  UnstoppedCode = "unleased"  // capture.freeze is off, or the daemon did not keep its helper informed
	UnstoppedAgain     UnstoppedCode = "again"     // it was stopped less than a minute ago
	UnstoppedForeign   UnstoppedCode = "foreign"   // somebody else stops it already
	UnstoppedParent    UnstoppedCode = "parent"    // its parent would act on it
	UnstoppedFull      UnstoppedCode = "full"      // as many as allowed stood still
	UnstoppedRefused   UnstoppedCode = "refused"   // the kernel did not do it
	UnstoppedUndecided UnstoppedCode = "undecided" // it asked what an exception may mean, or in an unusual way: only user space knows whether that is listed
)

// UnstoppedCodes returns them all.
func UnstoppedCodes() []UnstoppedCode {
	return []UnstoppedCode{
		UnstoppedUncertain, UnstoppedTraced, UnstoppedSpared, UnstoppedUnleased, UnstoppedAgain, UnstoppedForeign, UnstoppedParent,
		UnstoppedFull, UnstoppedRefused, UnstoppedUndecided,
	}
}

// A WentOnCode says why a process that the sensor had stopped went on. It is also a label of a
// metric.
type WentOnCode string

// Why it went on.
const (
	WentOnTraced  WentOnCode = "traced"  // strace was attached
	WentOnExpired WentOnCode = "expired" // capture.gate_deadline was over, or the sensor's helper failed
	WentOnLetGo   WentOnCode = "let_go"  // it was not to be traced, strace could not attach, or its packet was no new hit
)

// WentOnCodes returns them all.
func WentOnCodes() []WentOnCode { return []WentOnCode{WentOnTraced, WentOnExpired, WentOnLetGo} }
