package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"culprit/fleet"
	"culprit/internal/config"
)

func newFleet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "See many hosts together, and give them rules",
		Long: `See many hosts together, and give them rules. The hosts send what they find to NATS
servers, and get signed sets of rules from there: fleet in the configuration says where.
Whoever looks keeps a mirror of it in a directory, so that looking is as fast as on one
host, and works when the servers are away.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q (see `%s --help`)", args[0], cmd.CommandPath())}
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newFleetInit(), newFleetAccounts(), newFleetHandover(), newFleetKeygen(), newFleetSign(), newFleetPublish(), newFleetWithdraw(), newFleetTidy(), newFleetSets(), newFleetHunt())
	cmd.AddCommand(newFleetHosts(), newHits(new(mirrorFlags)), newCaptures(new(mirrorFlags)), newTraces(new(mirrorFlags)), newLosses(new(mirrorFlags)),
		newShowFrom(new(mirrorFlags)), newGrep(new(mirrorFlags)), newFleetFetch())
	return cmd
}

// fleetFlags say where a fleet is. Every command that talks to one has them.
type fleetFlags struct {
	config, credentials, name string
	servers                   []string
}

func (f *fleetFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &f.config, "")
	fl := cmd.Flags()
	fl.StringSliceVar(&f.servers, "servers", nil, "`URLs` of the servers (default: fleet.servers of the configuration)")
	fl.StringVar(&f.credentials, "credentials", "", "`file` with credentials: .creds or .nk (default: fleet.credentials)")
	fl.StringVar(&f.name, "fleet", "", "`name` of the fleet (default: fleet.name)")
}

// settings returns the named or usual configuration, or the defaults, with the flags put in.
func (f *fleetFlags) settings() (config.Config, error) {
	c, err := config.LoadToLook(cmp.Or(f.config, config.DefaultPath))
	if f.config == "" && errors.Is(err, fs.ErrNotExist) {
		usual := config.Default()
		c, err = &usual, nil
	}
	if err != nil {
		return config.Config{}, err
	}
	b := &c.Fleet
	if len(f.servers) > 0 {
		b.Servers = f.servers
	}
	b.Credentials, b.Name = cmp.Or(f.credentials, b.Credentials), cmp.Or(f.name, b.Name)
	for _, server := range f.servers {
		if err := config.CheckServer(server); err != nil {
			return *c, usageError{fmt.Errorf("--servers: %w", err)}
		}
	}
	if err := config.CheckFleetName(b.Name); err != nil {
		return *c, usageError{fmt.Errorf("--fleet: %w", err)}
	}
	return *c, nil
}

// fleet returns the section fleet of the configuration, with the flags put in.
func (f *fleetFlags) fleet() (config.Fleet, error) {
	c, err := f.settings()
	return c.Fleet, err
}

// connect connects to the servers of the fleet. The caller closes the connection.
func (f *fleetFlags) connect(ctx context.Context) (*fleet.Conn, error) {
	b, err := f.fleet()
	if err != nil {
		return nil, err
	}
	return fleet.Connect(ctx, b)
}
