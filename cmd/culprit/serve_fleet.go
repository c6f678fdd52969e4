package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence/directory"
	"culprit/evidence/retention"
	"culprit/fleet"
	"culprit/fleet/mirror"
	"culprit/internal/config"
)

// servedFleet is the fleet that culprit serve --fleet shows.
type servedFleet struct {
	show        bool
	dir         string
	servers     []string
	credentials string

	settings config.Config
	mirror   *mirror.Mirror // nil: another culprit keeps it up to date
	log      *slog.Logger
}

func (s *servedFleet) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&s.show, "fleet", false, "show all hosts of the fleet, and keep its mirror up to date")
	fl.StringVar(&s.dir, "mirror", "", "`directory` of the mirror (default: fleet.dir)")
	fl.StringSliceVar(&s.servers, "servers", nil, "`URLs` of the servers (default: fleet.servers of the configuration)")
	fl.StringVar(&s.credentials, "credentials", "", "`file` with credentials: .creds or .nk (default: fleet.credentials)")
}

// open opens the mirror and returns its directory.
func (s *servedFleet) open(f *evidenceFlags, log *slog.Logger) (dir string, err error) {
	s.log = log
	flags := fleetFlags{config: f.config, credentials: s.credentials, servers: s.servers}
	if s.settings, err = flags.settings(); err != nil {
		return "", err
	}
	if !s.settings.Fleet.Enabled() {
		return "", usageError{errors.New("no fleet: set fleet.servers in the configuration, or give --servers")}
	}
	if dir, err = filepath.Abs(cmp.Or(s.dir, f.dir, s.settings.Fleet.Dir)); err != nil {
		return "", err
	}
	s.mirror, err = mirror.Open(dir, log)
	var kept *directory.LockedError
	if errors.As(err, &kept) {
		log.Info("another culprit keeps the mirror up to date: this one only shows it", "pid", kept.PID, "mirror", dir)
		return dir, nil
	}
	return dir, err
}

func (s *servedFleet) close() {
	if s.mirror != nil {
		s.mirror.Close()
	}
}

// askAgain is how long to wait before connecting again.
const askAgain = 2 * time.Second

// follow runs serve, and keeps the mirror up to date meanwhile. When that fails for good, serve ends.
func (s *servedFleet) follow(ctx context.Context, serve func(context.Context) error) error {
	if s.mirror == nil {
		return serve(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 2)
	go func() {
		defer cancel()
		done <- s.read(ctx)
	}()
	go func() {
		e := s.settings.Evidence
		s.mirror.Sweeper(retention.Bounds{Keep: e.Keep, MaxBytes: int64(e.MaxBytes), MinFree: int64(e.MinFree), Compress: true}, nil).Run(ctx)
		done <- nil
	}()
	err := serve(ctx)
	cancel()
	return errors.Join(err, <-done, <-done)
}

// read reads what the fleet has until the context ends.
func (s *servedFleet) read(ctx context.Context) error {
	for away := false; ; away = true {
		c, err := fleet.Connect(ctx, s.settings.Fleet)
		if err == nil {
			err = s.mirror.Follow(ctx, c, nil)
			c.Close()
			return err
		}
		if !away && ctx.Err() == nil {
			s.log.Warn("the mirror does not get the events of the fleet: trying again", "error", err)
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil
		}
	}
}
