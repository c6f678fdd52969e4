package gate

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// watchdogAfter is how long the watchdog of these tests waits. A busy machine can keep a
// process from feeding it for a while.
const watchdogAfter = time.Second

// watched is a process with a watchdog, which behaves in the given way.
func watched(way string) error {
	dog, err := newWatchdog(watchdogAfter)
	if err != nil {
		return err
	}
	if err := dog.feed(time.Now()); err != nil {
		return err
	}
	switch way {
	case "starves":
		select {}
	case "rests":
		if err := dog.rest(); err != nil {
			return err
		}
		time.Sleep(watchdogAfter + watchdogAfter/2)
		return nil
	case "feeds":
		fmt.Println("fed")
		for start := time.Now(); time.Since(start) < 2*watchdogAfter; time.Sleep(watchdogAfter / 100) {
			if err := dog.feed(time.Now()); err != nil {
				return err
			}
		}
		return dog.rest() // with -race, exiting takes a second
	}
	return fmt.Errorf("no such way to live: %s", way)
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		way    string
		stop   bool
		killed bool
	}{
		{"feeds", false, false},
		{"feeds", true, true},
		{"rests", false, false},
		{"starves", false, true},
	} {
		t.Run(fmt.Sprintf("%s stopped=%v", c.way, c.stop), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "watchdog", c.way)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			limit := time.AfterFunc(soon, func() { cmd.Process.Kill() })
			start := time.Now()
			if c.stop {
				if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
					t.Error(err)
				}
				cmd.Process.Signal(syscall.SIGSTOP)
			}
			cmd.Wait()
			if !limit.Stop() {
				t.Fatalf("it did not end within %v", soon)
			}
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); c.killed != (status.Signaled() && status.Signal() == syscall.SIGKILL) || !c.killed && status.ExitStatus() != 0 {
				t.Errorf("it ended with %v after %v, want it killed: %v", cmd.ProcessState, time.Since(start), c.killed)
			}
		})
	}
}
