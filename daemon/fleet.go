package daemon

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/outlet"
	"culprit/fleet"
	"culprit/fleet/bundles"
	"culprit/fleet/sets"
	"culprit/internal/config"
)

// member is this host as a member of a fleet. A nil one is of none.
type member struct {
	conn     *fleet.Conn
	machine  string
	waiting  int64 // fleet.max_waiting
	log      *slog.Logger
	outbox   *catalogue.Outbox
	reporter *fleet.Reporter
	proofs   *bundles.Proofs // nil: nobody wants to know of them
}

// joinFleet connects this host, if the configuration says so. It waits a second for the servers.
func joinFleet(c config.Fleet, log *slog.Logger) (*member, error) {
	if !c.Enabled() {
		return nil, nil
	}
	machine, err := fleet.MachineID()
	if err != nil {
		return nil, err
	}
	conn, err := fleet.ConnectHost(c, log)
	if err != nil {
		return nil, err
	}
	m := &member{conn: conn, machine: machine, waiting: int64(c.MaxWaiting), log: log}
	if c.Bundles == config.BundlesProven {
		m.proofs = new(bundles.Proofs)
	}
	return m, nil
}

// send has the store send its events to the fleet.
func (m *member) send() []evidence.Option {
	if m == nil {
		return nil
	}
	options := []evidence.Option{evidence.SendToFleet(m.conn.Host, m.waiting, func(o *catalogue.Outbox) outlet.Outlet {
		m.outbox = o
		return fleet.NewPublisher(m.conn, o, m.machine, m.log)
	})}
	if m.proofs != nil {
		options = append(options, evidence.Proven(m.proofs.Add))
	}
	return options
}

// reports makes what tells the fleet how this host is.
func (m *member) reports(c *config.Config, version string, store *evidence.Store) {
	if m == nil {
		return
	}
	status := fleet.Status{
		Host: m.conn.Host, Machine: m.machine, Version: version, Kernel: kernel(), Started: time.Now().UTC(),
		Rules: ruleNames(c), Bundles: c.Fleet.Bundles,
	}
	m.reporter = fleet.NewReporter(m.conn, status, func(s *fleet.Status) {
		n := store.Counts()
		s.Outbox, s.Sequence, s.Waiting, s.Lost = m.outbox.ID(), m.outbox.Last(), n.FleetUnsent, n.FleetLost
	}, m.log)
}

// run tells the fleet how this host is, until the context ends.
func (m *member) run(ctx context.Context) {
	if m != nil {
		m.reporter.Run(ctx)
	}
}

// give gives bundles of captures to the fleet, until the context ends.
func (m *member) give(ctx context.Context, dir, rule string) {
	if m != nil {
		g := bundles.Giver{Conn: m.conn, Dir: dir, Rule: rule, Proofs: m.proofs, Changed: m.reporter.Change, Log: m.log}
		g.Run(ctx)
	}
}

// configured tells the fleet of a configuration that is now in force.
func (m *member) configured(c *config.Config) {
	if m != nil {
		m.reporter.Change(func(s *fleet.Status) { s.Rules = ruleNames(c) })
	}
}

// has tells the fleet what has become of its sets.
func (m *member) has(all []sets.Status) {
	if m != nil {
		m.reporter.Change(func(s *fleet.Status) { s.Sets = all })
	}
}

// connected reports whether a server of the fleet answers: 1, or 0.
func (m *member) connected() float64 {
	if m != nil && m.conn.IsConnected() {
		return 1
	}
	return 0
}

// connection returns that to the servers; nil if there is no fleet.
func (m *member) connection() *fleet.Conn {
	if m == nil {
		return nil
	}
	return m.conn
}

func (m *member) close() {
	if m != nil {
		m.conn.Close()
	}
}

func ruleNames(c *config.Config) (names []string) {
	for _, r := range c.Rules {
		names = append(names, r.Name)
	}
	return names
}

// kernel is the version of this machine's kernel; empty if that is unknown.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
