package capture

// state is where a trace is in its life, from when its process was found and is wanted:
//
//	            attach            detach             end
//	attaching ─────────▶ attached ──────▶ detaching ─────▶ ended
//	  │  │                │  │               ▲  │
//	  │  │ detach         │  └──────────end──┼──┼────────▶ ended
//	  │  └────▶ cancelled ┼──────attach──────┘  │
//	  │              │    │                     │
//	  └─────fail─────┴────┴──────────fail───────┴────────▶ given up
//
// That the gate holds the process is no state of its own: a process can be held several
// times, and in each of these states (see holds).
type state uint8

const (
	stateAttaching state = iota // strace was started, and is not on the process yet
	stateAttached               // strace is on the process
	stateCancelled              // strace was told to let go before it was on the process
	stateDetaching              // strace is on the process, and was told to let go
	stateEnded                  // strace has ended and left a trace
	stateGivenUp                // strace has ended and left none
	states                      // how many there are
)

// occurrence is what changes the state of a trace.
type occurrence uint8

const (
	onAttach    occurrence = iota // strace says that it is on the process
	onDetach                      // the controller tells strace to let go
	onEnd                         // strace has ended, and its trace is whole
	onFail                        // strace has ended, and there is no trace
	occurrences                   // how many there are
)

// after returns the state after an occurrence. What cannot be, or comes too late, changes
// nothing.
func (s state) after(o occurrence) state {
	switch {
	case o == onAttach && s == stateAttaching:
		return stateAttached
	case o == onAttach && s == stateCancelled: // it was on the process before it heard of it
		return stateDetaching
	case o == onDetach && s == stateAttaching:
		return stateCancelled
	case o == onDetach && s == stateAttached:
		return stateDetaching
	case o == onEnd && s.isOn():
		return stateEnded
	case o == onEnd && s.isStarting(), o == onFail && !s.isOver():
		return stateGivenUp
	}
	return s
}

// isStarting reports whether strace runs and is not on the process yet.
func (s state) isStarting() bool { return s == stateAttaching || s == stateCancelled }

// isOn reports whether strace is on the process.
func (s state) isOn() bool { return s == stateAttached || s == stateDetaching }

// isOver reports whether strace has ended.
func (s state) isOver() bool { return s == stateEnded || s == stateGivenUp }

func (s state) String() string {
	return [...]string{"attaching", "attached", "cancelled", "detaching", "ended", "given up"}[s]
}
