package capture

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"culprit/capture/gate"
)

// TestMain lets the test binary be the gate, too: the keeper starts its own
// executable, as "culprit gate".
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "gate" {
		os.Exit(m.Run())
	}
	var c gate.Config
	f := flag.NewFlagSet("gate", flag.ExitOnError)
	f.DurationVar(&c.Deadline, "deadline", 0, "")
	f.BoolVar(&c.Stop, "stop", false, "")
	f.Func("exempt", "", func(file string) error {
		c.Exempt = append(c.Exempt, file)
		return nil
	})
	f.Parse(os.Args[2:])
	if err := gate.Run(3, c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
