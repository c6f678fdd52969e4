package sensor

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// BenchmarkSystemCall is what holding programs costs each system call of the machine: getppid(2),
// without and with it by turns, the best of some rounds.
func BenchmarkSystemCall(b *testing.B) {
	testkit.Root(b)
	s, err := Open(Config{Hold: true, AtOnce: 1})
	if err != nil || !s.CanHold() {
		b.Skip(err, s.NoHold())
	}
	defer s.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	best := map[bool]time.Duration{}
	for b.Loop() {
		for range 10 {
			for _, on := range []bool{false, true} {
				var uids []uint32
				if on {
					uids = []uint32{1<<32 - 2} // nobody is stopped: there is no lease
				}
				if err := s.Hold(uids); err != nil {
					b.Fatal(err)
				}
				const calls = 100_000
				began := time.Now()
				for range calls {
					syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
				}
				if took := time.Since(began) / calls; best[on] == 0 || took < best[on] {
					best[on] = took
				}
			}
		}
	}
	for on, name := range map[bool]string{false: "idle-ns", true: "holding-ns"} {
		b.ReportMetric(float64(best[on].Nanoseconds()), name)
	}
	b.ReportMetric(0, "ns/op")
}
