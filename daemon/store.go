package daemon

import (
	"log/slog"

	"culprit/evidence"
	"culprit/evidence/outlet"
	"culprit/evidence/retention"
	"culprit/internal/config"
)

// openStore opens the evidence, and what its events are sent to.
func openStore(c *config.Config, log *slog.Logger) (*evidence.Store, error) {
	sendTo, err := outlets(c.Events, log)
	if err != nil {
		return nil, err
	}
	store, err := evidence.Open(c.Evidence.Dir, log, sendTo...)
	if err != nil {
		return nil, err
	}
	store.Redact(c.Capture.Redaction())
	return store, nil
}

// Bounds are how much evidence a configuration wants to be kept.
func Bounds(e config.Evidence) retention.Bounds {
	return retention.Bounds{Keep: e.Keep, MaxBytes: int64(e.MaxBytes), MinFree: int64(e.MinFree), Compress: e.Compress}
}

// outlets opens what events are sent to: one outlet, or none.
func outlets(e config.Events, log *slog.Logger) ([]evidence.Option, error) {
	var o outlet.Outlet
	var err error
	switch {
	case e.File != "":
		o, err = outlet.OpenFile(e.File)
	case e.Journald:
		o, err = outlet.OpenJournal()
	case len(e.Command) > 0:
		o, err = outlet.OpenCommand(e.Command, log)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []evidence.Option{evidence.SendTo(o)}, nil
}
