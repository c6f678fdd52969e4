package rules

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"

	"culprit/internal/config"
)

// Sensing is what the rules do for the sensor, beside logging packets. The zero value is
// nothing.
type Sensing struct {
	// Pin is the path of a pinned BPF program that each rule runs for the packets that it logs.
	Pin string
	// Mark is a bit that is set in the mark of each packet that a rule logs.
	Mark uint32
}

// rules returns the iptables rules that log what match matches.
func (s Sensing) rules(match, log []string) [][]string {
	join := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	switch {
	case s.Pin != "":
		return [][]string{join(match, []string{"-m", "bpf", "--object-pinned", s.Pin}, log)}
	case s.Mark != 0:
		bit := fmt.Sprintf("%#x/%#x", s.Mark, s.Mark)
		// The second rule looks for the bit first: most packets do not have it, and are not
		// searched twice.
		return [][]string{
			join(match, []string{"-j", "MARK", "--set-xmark", bit}),
			join([]string{"-m", "mark", "--mark", bit}, match, log),
		}
	}
	return [][]string{join(match, log)}
}

// NewInstalled is like [New], with the sensing that the rules in the firewall have: a daemon may
// have installed them, and only it knows its sensor. A pin that is gone does not count.
func NewInstalled(c *config.Config, log *slog.Logger) (*Firewall, error) {
	f, err := New(c, Sensing{}, log)
	if err != nil {
		return nil, err
	}
	if err := f.probe(probeReadOnly); err != nil {
		return nil, err
	}
	for _, t := range f.tools {
		state, err := f.at(t, f.table).look()
		if err != nil {
			return nil, err
		}
		for _, line := range state.rules {
			s, found := readSensing(line)
			if _, err := os.Stat(s.Pin); !found || s.Pin != "" && err != nil {
				continue
			}
			f.rules, err = Compile(c, s)
			return f, err
		}
	}
	return f, nil
}

// The ends of rules that do something for the sensor, as iptables -S prints them. Patterns
// stand before them.
var (
	runsPin  = regexp.MustCompile(`^.* -m bpf --object-pinned (\S+) -j NFLOG(?: --nflog-[a-z]+ (?:"[^"]*"|[^" ]+))*$`)
	setsMark = regexp.MustCompile(`^.* -j MARK --set-xmark (0x[0-9a-f]+)/0x[0-9a-f]+(?: -c \d+ \d+)?$`)
)

// readSensing reads what a rule of ours does for the sensor.
func readSensing(line string) (s Sensing, found bool) {
	if m := runsPin.FindStringSubmatch(line); m != nil {
		return Sensing{Pin: m[1]}, true
	}
	if m := setsMark.FindStringSubmatch(line); m != nil {
		bit, err := strconv.ParseUint(m[1], 0, 32)
		return Sensing{Mark: uint32(bit)}, err == nil
	}
	return Sensing{}, false
}
