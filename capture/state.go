package capture

// state is where a trace is in its life, which begins when its strace is started:
//
//	            attach            detach             end
//	attaching ─────────▶ attached ──────▶ detaching ─────▶ ended
//	  │  │                │  │               ▲  │
//	  │  │ detach         │  └──────────end──┼──┼────────▶ ended
//	  │  └────▶ cancelled ┼──────attach──────┘  │
//	  │              │    │                     │
//	  └─────fail─────┴────┴──────────fail───────┴────────▶ given up
//
// Whether the gate holds the process is no state of its own: it can hold it several times,
// and in each of these states (see holds).
type state uint8

const (
	stateAttaching state = iota // strace was started, and is not attached yet
	stateAttached               // strace is attached
	stateCancelled              // strace was told to detach, and is not attached yet
	stateDetaching              // strace was told to detach, and is attached
	stateEnded                  // strace has ended and left a trace
	stateGivenUp                // strace has ended and left none
	states                      // how many there are
)

// occurrence is what changes the state of a trace.
type occurrence uint8

const (
	onAttach    occurrence = iota // strace says that it is attached
	onDetach                      // the controller tells strace to detach
	onEnd                         // strace has ended, and its trace is whole
	onFail                        // strace has ended, and there is no trace
	occurrences                   // how many there are
)

// after returns the state after an occurrence. One that cannot happen in this state, or
// comes too late, changes nothing.
func (s state) after(o occurrence) state {
	switch {
	case o == onAttach && s == stateAttaching:
		return stateAttached
	case o == onAttach && s == stateCancelled: // strace had attached before it was told
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

// isStarting reports whether strace runs and is not attached yet.
func (s state) isStarting() bool { return s == stateAttaching || s == stateCancelled }

// isOn reports whether strace is attached.
func (s state) isOn() bool { return s == stateAttached || s == stateDetaching }

// isOver reports whether strace has ended.
func (s state) isOver() bool { return s == stateEnded || s == stateGivenUp }

func (s state) String() string {
	return [...]string{"attaching", "attached", "cancelled", "detaching", "ended", "given up"}[s]
}
