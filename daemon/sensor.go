package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"culprit/capture"
	"culprit/internal/config"
	"culprit/rules"
	"culprit/sensor"
)

// openSensor opens the sensor that the configuration wants. If auto finds no way, there is
// none; a way that is asked for must work.
func openSensor(ctx context.Context, c *config.Config, log *slog.Logger) (*sensor.Sensor, error) {
	if err := sensor.LetGoLeft(); err != nil {
		return nil, err
	}
	s, err := sensor.Open(SensorConfig(ctx, c))
	if err != nil {
		return nil, fmt.Errorf("open the sensor: %w", err)
	}
	var why []error
	for _, u := range s.Unusable() {
		why = append(why, fmt.Errorf("%s: %w", u.Way, u.Err))
	}
	if err := s.NoHold(); err != nil {
		if c.Capture.Gate == config.GateBPF {
			return nil, fmt.Errorf("capture.gate: bpf: %w: choose auto", errors.Join(err, s.Close()))
		}
		log.Info("programs are held by the gate", "error", err)
	}
	if err := s.NoOthers(); err != nil {
		return nil, fmt.Errorf("namespaces: the packets of other network namespaces cannot be seen: %w: set namespaces: host", errors.Join(err, s.Close()))
	}
	switch {
	case c.Sensor == config.SensorOff, s.Way() != sensor.WayNone:
	case c.Sensor == config.SensorAuto:
		log.Warn("no sensor: the first packet's program is a guess if it ends at once", "error", errors.Join(why...))
	default:
		return nil, fmt.Errorf("sensor: %w: choose another way, or auto", errors.Join(why...))
	}
	return s, nil
}

// OpenHolds opens a sensor that only holds programs at their start, where the kernel can do that and
// capture.gate allows it: for captures without packets.
func OpenHolds(c *config.Config) (*sensor.Sensor, error) {
	if err := sensor.LetGoLeft(); err != nil {
		return nil, err
	}
	s, err := sensor.Open(sensor.Config{Hold: holdsByBPF(c.Capture), AtOnce: c.Capture.Concurrent, Spared: spared(c.Guard)})
	if err != nil {
		return nil, fmt.Errorf("open the sensor: %w", err)
	}
	return s, nil
}

// holdsByBPF reports whether programs are to be held by the kernel, if it can do that.
func holdsByBPF(c config.Capture) bool { return c.Gate == config.GateAuto || c.Gate == config.GateBPF }

// SensorConfig returns what the configuration wants of a sensor.
func SensorConfig(ctx context.Context, c *config.Config) sensor.Config {
	s := sensor.Config{
		Mark: 1 << c.Firewall.MarkBit, Name: c.Firewall.Chain, Freeze: c.Capture.Freeze == config.FreezeAuto,
		Hold:   holdsByBPF(c.Capture),
		AtOnce: c.Capture.Concurrent, Rules: plainRules(c.Rules), Spared: spared(c.Guard), Legacy: rules.IsLegacy(ctx),
		Fits: func(pin string, mark uint32) error { return rules.Fits(ctx, c, rules.Sensing{Pin: pin, Mark: mark}) },
	}
	if others := c.OtherNamespaces(); others != nil {
		s.Others = &sensor.Others{Wants: wants(c.Rules), Snaplen: c.NFLog.Snaplen, Chosen: others[0] != config.NamespacesAll}
	}
	switch c.Sensor {
	case config.SensorOff:
	case config.SensorAuto:
		s.Ways = sensor.Ways()
	default:
		s.Ways = []sensor.Way{sensor.Way(c.Sensor)}
	}
	return s
}

// spared are the users whose processes the kernel never stops.
func spared(g config.Guard) (uids []uint32) {
	for _, u := range g.NeverUsers {
		uids = append(uids, u.UID)
	}
	for _, name := range g.Resolvers {
		if u, err := config.ParseUser(name); err == nil {
			uids = append(uids, u.UID)
		}
	}
	return uids
}

// plainRules are the rules without lists: the sensor looks at packets of others only if a filter in the kernel leaves those that are
// listed (see [listFilter]).
func plainRules(rules []config.Rule) (plain []sensor.Rule) {
	for _, r := range rules {
		if !r.IsList() {
			plain = append(plain, sensor.Rule{Name: r.Name})
		}
	}
	return plain
}

// wants are what the rules look for in other network namespaces.
func wants(rules []config.Rule) (all []sensor.Want) {
	for _, r := range rules {
		w := sensor.Want{Protocols: r.Protocols, Families: r.Families, Ports: r.Ports}
		if r.IsList() {
			w.List = r.Name
		} else {
			p, err := r.Pattern()
			if err != nil {
				continue // there is none in a configuration from Load
			}
			w.Pattern = &p
		}
		all = append(all, w)
	}
	return all
}

// watch lets the sensor see the packets that the listener reads.
func (d *daemon) watch() error {
	cookie, err := d.listener.Cookie()
	if err != nil {
		return err
	}
	if err := d.sensor.Start(cookie); err != nil {
		return err
	}
	if d.sensor.SeesOthers() {
		d.log.Info("packets of other network namespaces are seen", "namespaces", d.config.OtherNamespaces(), "freeze", d.sensor.FreezesOthers())
	}
	if d.sensor.Way() != sensor.WayNone {
		d.log.Info("the kernel says who sends a packet", "sensor", d.sensor.Way(), "freeze", d.sensor.Freezes())
	}
	return nil
}

// removeOldPins removes what a daemon that was killed left pinned for the rules that ours have just
// replaced.
func (d *daemon) removeOldPins() {
	if err := sensor.RemovePins(d.config.Firewall.Chain); err != nil {
		d.log.Warn("a BPF program of an earlier culprit is still pinned", "error", err)
	}
}

// awaitSensor waits until the sensor can stop processes, so that this is so for the first
// packet.
func (d *daemon) awaitSensor(ctx context.Context) {
	const patience = 2 * time.Second
	if !d.sensor.StopsAny() {
		return
	}
	select {
	case <-d.sensor.Leased():
	case <-time.After(patience): // keepSensor logs why
	case <-ctx.Done():
	}
}

// keepSensor keeps the sensor's lease, and those that it stopped, until the context ends.
func (d *daemon) keepSensor(ctx context.Context) {
	d.sensor.Run(ctx, d.config.Capture.GateDeadline, func(err error) {
		d.counts.SensorFailed()
		d.log.Error("the sensor's helper failed: until it is back, no process is stopped at its packet or its start", "error", err)
		d.controller.HoldsFailed(err)
	})
}

// Stops returns a sensor as a controller sees it.
func Stops(s *sensor.Sensor) capture.Stops { return stops{s} }

// stops are the sensor as the controller sees it.
type stops struct{ *sensor.Sensor }

// Starts returns the sensor if it can hold programs at their start.
func (s stops) Starts() capture.Starts {
	if !s.CanHold() {
		return nil
	}
	return starts(s)
}

// starts are what the sensor does for programs that start.
type starts struct{ *sensor.Sensor }

// Next waits for the next program that is held.
func (s starts) Next() (capture.Start, error) {
	n, err := s.NextStart()
	return capture.Start{Hold: n.Number, ID: n.ID, UID: n.UID, Cgroup: n.Cgroup, How: n.How, At: n.At}, err
}
