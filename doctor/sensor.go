package doctor

import (
	"context"
	"fmt"
	"strings"

	"culprit/daemon"
	"culprit/internal/config"
	"culprit/sensor"
)

// A tried is what one way of the sensor can do here.
type tried struct {
	way     sensor.Way
	err     error // nil: it works
	freezes bool
}

// sensing opens the sensor as the daemon does, each way alone.
func sensing(ctx context.Context, c *config.Config) Check {
	if c.Sensor == config.SensorOff {
		return ok("off (sensor)")
	}
	if !isRoot() {
		return cannotTell()
	}
	var all []tried
	for _, w := range sensor.Ways() {
		t, err := tryWay(ctx, c, w)
		if err != nil {
			return fail(err.Error(), "none known: please report this; until then set sensor: off")
		}
		all = append(all, t)
	}
	return judgeWays(c, all)
}

func tryWay(ctx context.Context, c *config.Config, w sensor.Way) (tried, error) {
	sc := daemon.SensorConfig(ctx, c)
	sc.Ways = []sensor.Way{w}
	s, err := sensor.Open(sc)
	if err != nil {
		return tried{}, fmt.Errorf("open the sensor: %w", err)
	}
	defer s.Close()
	t := tried{way: w, freezes: s.CanFreeze()}
	for _, u := range s.Unusable() {
		t.err = u.Err
	}
	return t, nil
}

// judgeWays says which way the configuration takes, and why the others cannot be taken.
func judgeWays(c *config.Config, all []tried) Check {
	var taken, best *tried // best: the first that works
	var others []string
	for i := range all {
		t := &all[i]
		works := t.err == nil
		if works && best == nil {
			best = t
		}
		if taken == nil && works && (c.Sensor == config.SensorAuto || c.Sensor == string(t.way)) {
			taken = t
			continue
		}
		switch {
		case !works:
			others = append(others, fmt.Sprintf("%s does not work: %v", t.way, t.err))
		case t.freezes:
			others = append(others, fmt.Sprintf("%s works, too", t.way))
		default:
			others = append(others, fmt.Sprintf("%s works, but stops nobody", t.way))
		}
	}
	rest := strings.Join(others, "; ")
	switch {
	case taken == nil && c.Sensor == config.SensorAuto:
		return warn("the kernel cannot say who sends a packet: "+rest, waysRemedy(all)+"; without it culprit finds a hit's process after the packet, and that of a short program is a guess (sensor: off hides this)")
	case taken == nil && best == nil:
		return fail("sensor: "+c.Sensor+": "+rest, "set sensor: auto or off; "+waysRemedy(all))
	case taken == nil:
		return fail("sensor: "+c.Sensor+": "+rest, fmt.Sprintf("set sensor: auto, or %s, which works here", best.way))
	}
	found := fmt.Sprintf("the kernel says who sends a packet (%s)", taken.way)
	switch {
	case c.Capture.Freeze == config.FreezeOff:
		found += ", and stops nobody (capture.freeze: off)"
	case taken.freezes:
		found += ", and stops that process until strace is attached"
	default:
		return warn(found+", but it cannot stop that process in this way; "+rest,
			"use Linux 6.16 or later, or set sensor: auto; capture.freeze: off hides this")
	}
	return ok("%s; %s", found, rest)
}

// waysRemedy says what most often helps if no way works.
func waysRemedy(all []tried) string {
	for _, t := range all {
		switch text := fmt.Sprint(t.err); {
		case strings.Contains(text, "BTF"):
			return "use a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_SYSCALL, as distributions build them"
		case strings.Contains(text, "PID namespace"):
			return "run culprit in the machine's first PID namespace (see container)"
		case strings.Contains(text, "not permitted"):
			return "give it CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, and the system call bpf (in a systemd unit see SystemCallFilter=, for a container --privileged; with Secure Boot see /sys/kernel/security/lockdown, which must not say confidentiality)"
		}
	}
	return "use Linux 5.15 or later"
}

// bpfFiles checks where the way "rule" pins its program.
func bpfFiles(context.Context, *config.Config) Check {
	if sensor.OnBPF(sensor.BPFFS) {
		return ok("mounted at %s", sensor.BPFFS)
	}
	return ok("none at %s; only sensor: rule needs one, and mounts its own in /run/culprit", sensor.BPFFS)
}
