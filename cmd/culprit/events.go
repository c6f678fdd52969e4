package main

import (
	"log/slog"

	"culprit/evidence"
	"culprit/evidence/outlet"
	"culprit/internal/config"
)

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
