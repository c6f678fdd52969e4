package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/fleet"
	"culprit/fleet/mirror"
	"culprit/internal/text"
)

// mirrorFlags say where a fleet and its mirror are. They are the source of what shows a fleet.
type mirrorFlags struct {
	fleetFlags
	dir     string
	offline bool
}

func (f *mirrorFlags) add(cmd *cobra.Command) {
	f.fleetFlags.add(cmd)
	cmd.Flags().StringVar(&f.dir, "mirror", "", "`directory` of the mirror (default: fleet.dir)")
	cmd.Flags().BoolVar(&f.offline, "offline", false, "only what the mirror has: do not ask the servers")
}

// directory returns the directory of the mirror.
func (f *mirrorFlags) directory() (string, error) {
	b, err := f.fleet()
	if err != nil {
		return "", err
	}
	return filepath.Abs(cmp.Or(f.dir, b.Dir))
}

// read brings the mirror up to date, and opens it. If the servers are away it says so, and shows what the mirror has.
func (f *mirrorFlags) read(cmd *cobra.Command) (*catalogue.Reader, error) {
	dir, err := f.directory()
	if err != nil {
		return nil, err
	}
	if f.offline {
		return catalogue.OpenReader(dir)
	}
	c, err := f.connect(cmd.Context())
	if err == nil {
		defer c.Close()
		err = catchUp(cmd, c, dir)
	}
	if err == nil {
		return catalogue.OpenReader(dir)
	}
	r, missing := catalogue.OpenReader(dir)
	if missing != nil || cmd.Context().Err() != nil {
		return nil, err
	}
	if mirrors, _ := r.Mirrors(); len(mirrors) == 0 { // nothing was ever read
		r.Close()
		return nil, err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "the fleet cannot be asked, so this is what the mirror has: %s\n", text.Escape(err.Error()))
	return r, nil
}

// catchUp brings the mirror up to date. If another culprit keeps it up to date, it waits for that.
func catchUp(cmd *cobra.Command, c *fleet.Conn, dir string) error {
	m, err := mirror.Open(dir, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if errors.As(err, new(*directory.LockedError)) {
		return awaitMirror(cmd, c, dir)
	}
	if err != nil {
		return err
	}
	return errors.Join(m.CatchUp(cmd.Context(), c), m.Close())
}

// mirrorPatience is how long another culprit may take to bring the mirror up to date.
const mirrorPatience = 10 * time.Second

// awaitMirror waits until another culprit has brought the mirror up to date.
func awaitMirror(cmd *cobra.Command, c *fleet.Conn, dir string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), mirrorPatience)
	defer cancel()
	behind, err := mirror.Await(ctx, c, dir)
	if err == nil && behind > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "the mirror, which another culprit keeps up to date, lacks %s of the fleet\n", text.Plural(int(behind), "message"))
	}
	return err
}
