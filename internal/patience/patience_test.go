package patience

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPatience: whoever asks waits for files that hang no longer than the limit, and no more at all when
// several hang. Files of others are read meanwhile, and those again as soon as they no longer hang.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p Patience
		server := make(chan struct{})
		hang := func() { <-server }
		for range maxBusyOf {
			began := time.Now()
			if p.Wait("user 1000", Short, hang) || time.Since(began) != Short {
				t.Errorf("it waited %v for files that hang", time.Since(began))
			}
		}
		began := time.Now()
		if p.Wait("user 1000", Short, func() { t.Error("it read again") }) || time.Since(began) != 0 {
			t.Errorf("it waited another %v", time.Since(began))
		}
		if !p.Wait("root", Long, func() {}) {
			t.Error("the files of another one were not read")
		}
		for i := range maxBusy {
			p.Wait(string(rune('a'+i)), Short, hang)
		}
		if p.Wait("one too many", Short, func() { t.Error("it read") }) {
			t.Error("more owners hang than allowed")
		}
		close(server)
		synctest.Wait()
		if !p.Wait("user 1000", Short, func() {}) || len(p.busy) != 0 {
			t.Errorf("after the end of the hanging: %v", p.busy)
		}
	})
}
