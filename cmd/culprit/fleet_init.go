package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culprit/fleet"
	"culprit/internal/config"
)

func newFleetInit() *cobra.Command {
	var flags fleetFlags
	var bytes, bundles, discard string
	plan := fleet.Plan{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the streams and buckets of a fleet on its servers",
		Long: `Make the streams and buckets of a fleet on its servers. It needs an operator's credentials.
What is there stays as it is; what of it is not as asked for is said. Run it again with
--host for each host that is new: without it no bundles come from there.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readPlan(&plan, bytes, bundles, discard); err != nil {
				return usageError{err}
			}
			c, err := flags.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			all, err := c.Setup(cmd.Context(), plan)
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, made := range all {
				state := "was there"
				if made.New {
					state = "made"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\n", made.Name, state, strings.Join(made.Differs, ", "))
			}
			return errors.Join(table.Flush(), err)
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&plan.Replicas, "replicas", 1, "on how many servers everything is kept: 1, 3 or 5")
	cmd.Flags().StringVar(&bytes, "max-bytes", "10GiB", "the most `size` of all events")
	cmd.Flags().DurationVar(&plan.MaxAge, "max-age", 30*24*time.Hour, "how long events stay")
	cmd.Flags().StringVar(&discard, "discard", "old", "what goes when the events are too many: `old|new` (new: it waits on its host)")
	cmd.Flags().StringVar(&bundles, "bundle-bytes", "1GiB", "the most `size` of the bundles of a host")
	cmd.Flags().StringSliceVar(&plan.Hosts, "host", nil, "`names` of hosts")
	return cmd
}

func readPlan(p *fleet.Plan, bytes, bundles, discard string) (err error) {
	most, err := config.ParseBytes(bytes)
	if err != nil {
		return fmt.Errorf("--max-bytes: %w", err)
	}
	ofHost, err := config.ParseBytes(bundles)
	if err != nil {
		return fmt.Errorf("--bundle-bytes: %w", err)
	}
	p.MaxBytes, p.BundleBytes = int64(most), int64(ofHost)
	if p.Replicas != 1 && p.Replicas != 3 && p.Replicas != 5 {
		return fmt.Errorf("--replicas: %d is not 1, 3 or 5", p.Replicas)
	}
	switch discard {
	case "old", "new":
		p.DiscardNew = discard == "new"
	default:
		return fmt.Errorf("--discard: %q is neither old nor new", discard)
	}
	return checkHosts(p.Hosts)
}

// checkHosts checks the names of hosts.
func checkHosts(hosts []string) error {
	for _, host := range hosts {
		if err := config.CheckHostName(host); err != nil {
			return err
		}
	}
	return nil
}

func newFleetHandover() *cobra.Command {
	var flags fleetFlags
	cmd := &cobra.Command{
		Use:   "handover HOST",
		Short: "Let another machine go on under the name of a host that it has replaced",
		Long: `Let another machine go on under the name of a host that it has replaced. Two machines with
one name would mix their events; so the second sends none until an operator says this.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("give the name of one host (see `%s --help`)", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkHosts(args); err != nil {
				return usageError{err}
			}
			c, err := flags.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Handover(cmd.Context(), args[0])
		},
	}
	flags.add(cmd)
	return cmd
}
