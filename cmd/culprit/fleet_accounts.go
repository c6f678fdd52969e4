package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"culprit/fleet"
	"culprit/internal/config"
)

func newFleetAccounts() *cobra.Command {
	var dir, name string
	cmd := &cobra.Command{
		Use:   "accounts [HOST...]",
		Short: "Make keys for the hosts of a fleet, and print who may do what for nats-server",
		Long: `Make keys for the hosts of a fleet, and print who may do what for nats-server. Each host, an
operator and a reader (who looks at the fleet) get the seed of an NKey in a file that only
you can read; keys that are there stay. Put the output into a file that the configuration
of nats-server includes, and each seed on its host, as fleet.credentials.

    culprit fleet accounts --dir keys web1 web2 db1 >culprit.conf`,
		RunE: func(cmd *cobra.Command, hosts []string) error {
			if err := checkHosts(hosts); err != nil {
				return usageError{err}
			}
			if err := config.CheckFleetName(name); err != nil {
				return usageError{err}
			}
			n := fleet.Name(name)
			users := []fleet.User{n.Operator(), n.Reader()}
			for _, host := range hosts {
				if host == "operator" || host == "reader" {
					return usageError{fmt.Errorf("%q is the name of a user: call the host otherwise", host)}
				}
				users = append(users, n.HostUser(host))
			}
			made, err := fleet.Keys(dir, users)
			for _, path := range made {
				fmt.Fprintf(cmd.ErrOrStderr(), "made %s\n", path)
			}
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), n.ServerConfig(users))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "culprit-keys", "`directory` of the keys")
	cmd.Flags().StringVar(&name, "fleet", config.Default().Fleet.Name, "`name` of the fleet")
	return cmd
}
