package gate

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain lets the test binary play other processes too: the gate, which a keeper starts as
// "culprit gate", and the process that a watchdog watches.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "gate" && os.Args[1] != "watchdog" {
		os.Exit(m.Run())
	}
	if err := helper(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lifetime is the longest that a helper process lives, whatever happens to it, its test or its
// own watchdog: while a gate has marks, the whole machine waits for it.
const lifetime = 60 * time.Second

func helper(what string, args []string) error {
	alarm, err := newWatchdog(lifetime)
	if err != nil {
		return err
	}
	if err := alarm.feed(time.Now()); err != nil {
		return err
	}
	if what == "watchdog" {
		return watched(args[0])
	}
	var c Config
	f := flag.NewFlagSet("gate", flag.ExitOnError)
	f.DurationVar(&c.Deadline, "deadline", 0, "")
	f.BoolVar(&c.Stop, "stop", false, "")
	f.Func("exempt", "", func(file string) error {
		c.Exempt = append(c.Exempt, file)
		return nil
	})
	f.Parse(args)
	return Run(3, c)
}
