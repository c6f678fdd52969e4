package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"culprit/internal/config"
	"culprit/internal/listen"
	"culprit/serve"
)

func newServe() *cobra.Command {
	var f evidenceFlags
	var address string
	var fleet servedFleet
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Show the evidence to a browser",
		Long: `Show the evidence to a browser: hits as they come, captures, reports and downloads. It only
reads. It also works while culprit is not running, and says so.

It listens where serve.listen of the configuration says: by default on a socket that only
root can use. On a port a browser has to show a token. If serve.token_file does not give
one, there is a new one at each start: open the printed address. Addresses that other
machines reach need TLS (serve.tls), and a token file or client certificates.

With --fleet it shows all hosts of a fleet: it keeps the mirror of the fleet up to date,
and shows that. When the servers are away it shows what it has.`,
		Example: `  culprit serve --listen 127.0.0.1:9358
  culprit serve --fleet --listen 127.0.0.1:9358
  ssh -L 9358:/run/culprit-serve/serve.sock root@HOST   # then open http://localhost:9358`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			dir, err := f.directory()
			if fleet.show {
				dir, err = fleet.open(&f, log)
				defer fleet.close()
			}
			if err != nil {
				return err
			}
			settings, err := f.serve()
			if err != nil {
				return err
			}
			if address != "" {
				settings.Listen = address
			}
			network, at, err := settings.Address()
			if err != nil {
				return usageError{fmt.Errorf("serve.listen: %w", err)}
			}
			door, err := openDoor(settings, network, log)
			if err != nil {
				return err
			}
			s, err := serve.New(dir, door, log)
			if err != nil {
				return err
			}
			l, err := listen.On(cmd.Context(), network, at)
			if err != nil {
				return fmt.Errorf("serve.listen: %w", err)
			}
			if err := serve.GiveUpRights(); err != nil {
				l.Close()
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the evidence in %s is shown at %s\n", dir, shownAt(l, door, settings.TokenFile == ""))
			return fleet.follow(cmd.Context(), func(ctx context.Context) error { return s.Serve(ctx, l) })
		},
	}
	f.add(cmd)
	fleet.add(cmd)
	cmd.Flags().StringVar(&address, "listen", "", "listen on this `address`: unix:PATH or IP:PORT (default: serve.listen of the configuration)")
	return cmd
}

// serve returns the serve section of the named or usual configuration, or the defaults.
func (f *evidenceFlags) serve() (config.Serve, error) {
	c, err := f.configuration()
	return c.Serve, err
}

// openDoor makes what decides who may come in.
func openDoor(c config.Serve, network string, log *slog.Logger) (door serve.Door, err error) {
	if network == "tcp" {
		if door.Token, err = token(c.TokenFile); err != nil {
			return door, err
		}
	}
	if c.TLS.Cert != "" {
		door.Secure, err = serve.NewSecure(c.TLS, c.TokenFile == "", log)
	}
	return door, err
}

// token returns the token of a file, or a new one.
func token(path string) (string, error) {
	if path == "" {
		return serve.NewToken(), nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("serve.token_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("serve.token_file: others can read or write %s: chmod 600 it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("serve.token_file: %w", err)
	}
	const least = 32
	t := strings.TrimSpace(string(b))
	if len(t) < least {
		return "", fmt.Errorf("serve.token_file: the token in %s has %d characters, and could be guessed: write %d or more, such as: openssl rand -hex 32", path, len(t), least)
	}
	return t, nil
}

// shownAt is where a browser finds us. A token that only we know is part of it.
func shownAt(l net.Listener, door serve.Door, tell bool) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	u := url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/"}
	if door.Secure != nil {
		u.Scheme = "https"
	}
	if door.Secure != nil && door.Secure.Required() || !tell {
		return u.String()
	}
	u.Path, u.RawQuery = "/login", url.Values{"token": {door.Token}}.Encode()
	return u.String()
}
