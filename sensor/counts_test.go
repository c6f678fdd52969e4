package sensor

import (
	"encoding/binary"
	"slices"
	"testing"

	"culprit/internal/event"
)

// Each reason of the program has a code of its own, and is counted by it.
func TestWhyNot(t *testing.T) {
	t.Parallel()
	s := &Sensor{way: WayNone}
	sends := &Sends{sensor: s, calls: sendingCalls()}
	var seen []event.UnstoppedCode
	for why := range uint32(notDecided + 3) { // also none, and one that does not exist
		b := make([]byte, recSize)
		binary.NativeEndian.PutUint32(b[recWhyNot:], why)
		before := s.Counts()
		sends.add(b)
		for code, n := range s.Counts().Unstopped {
			if n != before.Unstopped[code] {
				seen = append(seen, code)
			}
		}
	}
	if want := event.UnstoppedCodes(); !slices.Equal(seen, want) || len(seen) != notDecided {
		t.Errorf("counted %v, want %v", seen, want)
	}
	sends.add([]byte("short"))
	if got := s.Counts().Unread; got != 1 {
		t.Errorf("%d records could not be read, want 1", got)
	}
}
