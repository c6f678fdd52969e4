package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"culprit/fleet/sets"
	"culprit/fleet/shelf"
	"culprit/internal/text"
)

func newFleetTidy() *cobra.Command {
	var (
		f    setFlags
		at   fleetFlags
		wait time.Duration
	)
	cmd := &cobra.Command{
		Use:   "tidy",
		Short: "Remove sets that are withdrawn or long over from the servers",
		Long: `Remove the sets from the servers that are withdrawn, or ended more than 30 days ago. One signed
set, ` + sets.EndedName + `, says so in their place: a host that was away takes them back when it comes,
and none takes an older version of them again, whoever has the servers.

Sets that neither --key nor a key of fleet.keys has signed stay, and are named.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.tidy(cmd.Context(), cmd.OutOrStdout(), &f, wait)
		},
	}
	at.add(cmd)
	cmd.Flags().StringVar(&f.key, "key", "", "secret key that signs, a `file` of culprit fleet keygen or minisign")
	waitFlag(cmd, &wait)
	return cmd
}

// tidy signs and publishes which sets are over, and removes them.
func (f *fleetFlags) tidy(ctx context.Context, w io.Writer, set *setFlags, wait time.Duration) error {
	b, err := f.fleet()
	if err != nil {
		return err
	}
	key, err := signingKey(set.key)
	if err != nil {
		return err
	}
	keys, _ := sets.ParseKeys(b.Keys) // the configuration was checked
	own, _ := key.Public().(minisign.PublicKey)
	keys = append(keys, own)
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ended, places, odd, err := shelf.Over(ctx, c, sets.Trust{Fleet: b.Name, Keys: keys}, time.Now())
	if err != nil {
		return err
	}
	for _, name := range odd {
		fmt.Fprintf(w, "the set %s stays: no key that you have here has signed it\n", text.Escape(name))
	}
	before, err := shelf.Get(ctx, c, sets.EndedName)
	if err != nil {
		return err
	}
	replaced := false // the key that has signed it
	if before != nil {
		_, err := sets.Trust{Fleet: b.Name, Keys: []minisign.PublicKey{own}}.Verify(before.Name, before.Signed)
		replaced = err != nil
	}
	if len(places) == 0 && !replaced {
		fmt.Fprintln(w, "no set is withdrawn or long over: nothing to remove")
		return nil
	}
	s, err := set.empty(b.Name, sets.EndedName, time.Now())
	if err != nil {
		return err
	}
	s.Ended = ended
	if before != nil {
		set.follow(s, before.Set)
	}
	signed, err := sets.Sign(s, key)
	if err != nil {
		return err
	}
	if err := f.publish(ctx, w, s, signed, nil, wait); err != nil {
		return err
	}
	if err := shelf.Remove(ctx, c, places); err != nil {
		return err
	}
	fmt.Fprintf(w, "removed %s from the servers\n", text.Plural(len(places), "set"))
	return nil
}
