package snapshot

import (
	"os/exec"
	"testing"
	"time"

	"culprit/internal/event"
)

// How long a program stands still for a snapshot: /proc alone, and with its call stack.
func BenchmarkTake(b *testing.B) {
	for name, stack := range map[string]string{"proc": "", "stack": FindStack()} {
		for program, args := range map[string][]string{"sleep": {"1000"}, "php": {"-r", "sleep(1000);"}} {
			path, err := exec.LookPath(program)
			if err != nil {
				continue
			}
			b.Run(name+"/"+program, func(b *testing.B) {
				id := stopped(b, exec.CommandContext(b.Context(), path, args...))
				k, _ := taker(b, stack)
				for b.Loop() {
					s := k.Take(Request{ID: id, Limit: time.Second, Of: event.Snapshot{}})
					s.close()
				}
			})
		}
	}
}
