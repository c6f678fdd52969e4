package capture

import "testing"

// What each occurrence makes of each state.
func TestStates(t *testing.T) {
	t.Parallel()
	const (
		attaching, attached, cancelled = stateAttaching, stateAttached, stateCancelled
		detaching, ended, givenUp      = stateDetaching, stateEnded, stateGivenUp
	)
	want := [states][occurrences]state{
		//             attach     detach     end      fail
		attaching: {attached, cancelled, givenUp, givenUp},
		attached:  {attached, detaching, ended, givenUp}, // it fails when its file cannot be made
		cancelled: {detaching, cancelled, givenUp, givenUp},
		detaching: {detaching, detaching, ended, givenUp},
		ended:     {ended, ended, ended, ended},
		givenUp:   {givenUp, givenUp, givenUp, givenUp},
	}
	for s := range states {
		for o := range occurrences {
			if got := s.after(o); got != want[s][o] {
				t.Errorf("%v after occurrence %d: %v, want %v", s, o, got, want[s][o])
			}
		}
		questions := 0
		for _, is := range []bool{s.isStarting(), s.isOn(), s.isOver()} {
			if is {
				questions++
			}
		}
		if questions != 1 {
			t.Errorf("%v is %d of: starting, on, over", s, questions)
		}
	}
}
