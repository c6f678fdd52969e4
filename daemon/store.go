package daemon

import (
	"log/slog"

	"culprit/evidence"
	"culprit/evidence/outlet"
	"culprit/evidence/retention"
	"culprit/internal/config"
)

// openStore opens the evidence and the destination of its events.
func openStore(c *config.Config, log *slog.Logger) (*evidence.Store, error) {
	options := []evidence.Option{evidence.Masking(c.Capture.Redaction())}
	o, err := openOutlet(c.Events, log)
	if err != nil {
		return nil, err
	}
	if o != nil {
		options = append(options, evidence.SendTo(o))
	}
	return evidence.Open(c.Evidence.Dir, log, options...)
}

// openOutlet opens the destination of events, nil if there is none.
func openOutlet(e config.Events, log *slog.Logger) (outlet.Outlet, error) {
	switch {
	case e.File != "":
		return outlet.OpenFile(e.File)
	case e.Journald:
		return outlet.OpenJournal()
	case len(e.Command) > 0:
		return outlet.OpenCommand(e.Command, log)
	}
	return nil, nil
}

// Bounds returns how much evidence a configuration keeps.
func Bounds(e config.Evidence) retention.Bounds {
	return retention.Bounds{Keep: e.Keep, MaxBytes: int64(e.MaxBytes), MinFree: int64(e.MinFree), Compress: e.Compress}
}
