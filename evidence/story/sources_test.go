package story

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"culprit/internal/event"
)

// A call that several traces show is one step, and the packet's if any of them proves that. A trace that cannot be
// read hides nothing of what others show.
func TestCallOfManyTraces(t *testing.T) {
	t.Parallel()
	const call = "sendto(" + udp + ", 0x7ffc1c504a20, 0x25, 0x4000, 0x0, 0x0) = 37"
	back := trace("812 0.1 "+call, "812 5 exit_group(0) = ?")
	traced := trace("812 0 "+call+" <0.000050>", "812 5 exit_group(0) = ?")
	whole := opened
	broken := func(text string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(text), iotest.ErrReader(errors.New("broken")))), nil
		}
	}
	for name, tt := range map[string]struct {
		second func(text string) func() (io.ReadCloser, error)
		proof  string
	}{
		"proven in the last":  {whole, "S"},
		"proven in the first": {whole, "A"},
		"one is broken":       {broken, "S"},
	} {
		h := asked("H", 7)
		h.Culprit.Proof = &event.ProofDetail{Trace: event.Reference{ID: tt.proof}, Line: 2}
		of := func(id string, back *event.LookBack, open func() (io.ReadCloser, error)) Trace {
			return Trace{&event.Trace{Event: event.Meta{ID: id}, Process: event.Process{PID: 812}, Culprit: event.TraceDetail{LookBack: back}}, open}
		}
		s, err := Read(Of{Hits: []*event.Hit{h}, Traces: []Trace{
			of("A", &event.LookBack{}, whole(back)), of("B", &event.LookBack{}, tt.second(back)), of("S", nil, whole(traced)),
		}})
		if name != "one is broken" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := written(s); got != "2 0s 812 : > asked 127.0.0.1:53 for x.badzone.test A" {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}
