package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/outlet"
	"culprit/evidence/outlet/ocsf"
	"culprit/evidence/retention"
	"culprit/internal/config"
)

// openStore opens the evidence and the destinations of its events.
func openStore(c *config.Config, version string, m *member, told *systemd, log *slog.Logger) (*evidence.Store, error) {
	options := []evidence.Option{evidence.Masking(c.Capture.Redaction())}
	o, err := openOutlet(c.Events, version, log)
	if err != nil {
		return nil, err
	}
	if o != nil {
		options = append(options, evidence.SendTo(o))
	}
	if catalogue.Outdated(c.Evidence.Dir) {
		upgrade := start(context.Background(), withoutError(func(ctx context.Context) { tellUpgrade(ctx, told, log) }))
		defer stop(upgrade)
	}
	return evidence.Open(c.Evidence.Dir, log, append(options, m.send()...)...)
}

// While a catalogue is upgraded, the log and systemd are told so this often. systemd may wait until three of these have passed without;
// if the upgrade takes longer than the last, something is wrong, and systemd may end it: the next start begins it again.
const (
	upgradeTold = 20 * time.Second
	upgradeMost = 2 * time.Hour
)

// tellUpgrade tells of an upgrade until the context ends.
func tellUpgrade(ctx context.Context, s *systemd, log *slog.Logger) {
	began := time.Now()
	tick := time.NewTicker(upgradeTold)
	defer tick.Stop()
	for time.Since(began) < upgradeMost {
		log.Info("the catalogue is of an older version, and is upgraded: with millions of hits this takes minutes", "since", began.Format(time.RFC3339))
		s.tell(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=upgrading the catalogue", (3 * upgradeTold).Microseconds()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.tell("STATUS=")
			return
		}
	}
}

// openOutlet opens the destination of events, nil if there is none.
func openOutlet(e config.Events, version string, log *slog.Logger) (o outlet.Outlet, err error) {
	var convert func(line string) string
	if e.Format == config.FormatOCSF {
		host, _ := os.Hostname()
		convert = ocsf.Converter{Host: host, Version: version}.Line
	}
	switch {
	case e.File != "":
		o, err = outlet.OpenFile(e.File)
	case e.Journald:
		o, err = outlet.OpenJournal()
	case len(e.Command) > 0:
		o, err = outlet.OpenCommand(e.Command, log)
	case e.OTLP.Endpoint != "":
		return openOTLP(e.OTLP, version, convert)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if convert != nil {
		o = outlet.Formatted(o, convert)
	}
	return o, nil
}

func openOTLP(c config.OTLP, version string, convert func(line string) string) (outlet.Outlet, error) {
	endpoint, err := c.URL()
	if err != nil {
		return nil, err // cannot be: the configuration was checked
	}
	return outlet.OpenOTLP(outlet.OTLPOptions{
		Endpoint: endpoint, HeadersFile: c.HeadersFile, CA: c.CA, Cert: c.Cert, Key: c.Key,
		Plain: c.Compression == config.CompressionNone, Timeout: c.Timeout, Version: version, Body: convert,
	})
}

// Bounds returns how much evidence a configuration keeps.
func Bounds(e config.Evidence) retention.Bounds {
	return retention.Bounds{Keep: e.Keep, MaxBytes: int64(e.MaxBytes), MinFree: int64(e.MinFree), Compress: e.Compress}
}
