package proc

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"culprit/internal/testkit"
)

// Who waits in another call does not wait there.
func TestWaitsInExecve(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	testkit.Eventually(t, "it waits in another call", func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", cmd.Process.Pid))
		if err == nil && Default.WaitsInExecve(cmd.Process.Pid) {
			err = fmt.Errorf("it is in %s", text)
		}
		return err
	})
}
