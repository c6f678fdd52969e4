package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/fleet/shelf"
	"culprit/internal/text"
)

func newFleetPublish() *cobra.Command {
	var (
		f    setFlags
		at   fleetFlags
		wait time.Duration
	)
	cmd := &cobra.Command{
		Use:   "publish FILE",
		Short: "Put a signed set of rules on the servers, and say which hosts took it",
		Long: `Put a signed set of rules and lists on the servers of the fleet. FILE is a NAME.json of
` + "`culprit fleet sign`" + `, or a configuration whose rules are signed first (--key).

Hosts that are there put it in force within a second; others when they come. culprit waits a
moment for them, and prints which took it, and which refused and why. A version replaces the
one before it; rules that are in both are in force all the time.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var (
				s      *sets.Set
				signed sets.Signed
				paths  map[string]string
				err    error
			)
			if strings.HasSuffix(args[0], ".json") {
				s, signed, paths, err = readSigned(args[0])
			} else {
				b, configErr := at.fleet()
				if configErr != nil {
					return configErr
				}
				if s, paths, err = f.build(ctx, b.Name, args[0], cmd.ErrOrStderr()); err == nil {
					signed, err = at.signNext(ctx, &f, s)
				}
			}
			if err != nil {
				return err
			}
			return at.publish(ctx, cmd.OutOrStdout(), s, signed, paths, wait)
		},
	}
	at.add(cmd)
	f.add(cmd)
	waitFlag(cmd, &wait)
	return cmd
}

// published returns the set of a name that the servers have, nil if there is none.
func (f *fleetFlags) published(ctx context.Context, name string) (*shelf.Place, error) {
	c, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return shelf.Get(ctx, c, name)
}

// signNext signs a set as the one after that which the servers have.
func (f *fleetFlags) signNext(ctx context.Context, set *setFlags, s *sets.Set) (sets.Signed, error) {
	before, err := f.published(ctx, s.Name)
	if err != nil {
		return sets.Signed{}, err
	}
	if before != nil {
		set.follow(s, before.Set)
	}
	return set.sign(s)
}

func waitFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", 10*time.Second, "how long to wait for hosts that are there to take it")
}

// manyNames is with how many sets who publishes is told so.
const manyNames = shelf.MaxNames * 9 / 10

// publish puts a set on the servers, and says what the hosts make of it.
func (f *fleetFlags) publish(ctx context.Context, w io.Writer, s *sets.Set, signed sets.Signed, paths map[string]string, wait time.Duration) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if s.Fleet != string(c.Name) {
		return usageError{fmt.Errorf("the set %s was signed for the fleet %s, and this is the fleet %s", s.Name, s.Fleet, c.Name)}
	}
	if err := shelf.Put(ctx, c, signed, paths); err != nil {
		return err
	}
	if s.Withdrawn {
		fmt.Fprintf(w, "withdrew the set %s with version %d\n", s.Name, s.Version)
	} else {
		fmt.Fprintf(w, "published version %d of the set %s: %s, for %s, until %s\n", s.Version, s.Name, contents(s), whom(s), until(s))
	}
	if err := shelf.Tidy(ctx, c, time.Now()); err != nil && ctx.Err() == nil { // the next one does it
		fmt.Fprintln(w, text.Escape(err.Error()))
	}
	if n, err := shelf.Count(ctx, c); err == nil && n >= manyNames {
		fmt.Fprintf(w, "the servers have %d sets of %d that hosts read: `culprit fleet tidy --key FILE` removes those that are withdrawn or long over\n", n, shelf.MaxNames)
	}
	answers, err := collect(ctx, c, s, wait)
	if err != nil {
		return err
	}
	return answers.print(w, s)
}

// answers are what hosts say of a version of a set, by host.
type answers map[string]answer

type answer struct {
	status sets.Status
	knows  bool // it has had that version
	seen   time.Time
}

// collect waits until every host that is there has said what it makes of a set.
func collect(ctx context.Context, c *fleet.Conn, s *sets.Set, wait time.Duration) (answers, error) {
	ctx, end := context.WithTimeout(ctx, wait)
	defer end()
	all := answers{}
	first := true
	done := func() bool {
		first = false
		return !all.complete(time.Now())
	}
	err := shelf.Hosts(ctx, c, done, func(h fleet.Status) bool {
		all.take(h, s)
		return first || !all.complete(time.Now())
	})
	if ctx.Err() != nil {
		err = nil // some have not answered
	}
	return all, err
}

// take notes what a host says.
func (a answers) take(h fleet.Status, s *sets.Set) {
	status, _ := shelf.Of(h, s.Name)
	forged := status.State == sets.StateRefused && status.Version < s.Version && status.Code != ""
	a[h.Host] = answer{status, status.Version == s.Version || forged, h.Time}
}

// complete reports whether all hosts that are there have said what they make of the set.
func (a answers) complete(now time.Time) bool {
	for _, one := range a {
		if now.Sub(one.seen) < fleet.Silent && (!one.knows || one.status.State == sets.StateWaiting) {
			return false
		}
	}
	return true
}

// print says which hosts took the set, and which did not.
func (a answers) print(w io.Writer, s *sets.Set) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	in, other := 0, 0
	for _, host := range slices.Sorted(maps.Keys(a)) {
		one := a[host]
		switch {
		case one.knows && one.status.State == sets.StateInForce:
			in++
			continue
		case one.knows && (one.status.State == sets.StateElsewhere || one.status.State == sets.StateWithdrawn || one.status.State == sets.StateExpired):
			other++
			continue
		}
		fmt.Fprintf(table, "  %s\t%s\n", text.Escape(host), text.Escape(one.says(s)))
	}
	if s.Withdrawn {
		fmt.Fprintf(w, "taken back by %s\n", text.Plural(other, "host"))
	} else {
		fmt.Fprintf(w, "in force on %s\n", text.Plural(in, "host"))
	}
	return table.Flush()
}

// says is what a host makes of a set, in words.
func (a answer) says(s *sets.Set) string {
	said := ""
	switch {
	case !a.knows && time.Since(a.seen) >= fleet.Silent:
		said = "not there since " + text.Time(a.seen) + ": it takes the set when it comes"
	case !a.knows:
		said = "has not answered: it may take nothing from the fleet (fleet.accept)"
	default:
		said = stateWords(a.status)
	}
	if a.status.InForce != 0 && a.status.InForce != s.Version {
		said += fmt.Sprintf("; version %d is in force there", a.status.InForce)
	}
	return said
}

// stateWords says in English what has become of a set.
func stateWords(s sets.Status) string {
	said := map[sets.State]string{
		sets.StateInForce: "in force", sets.StateWaiting: "waits for its lists", sets.StateRefused: "refused",
		sets.StateExpired: "over", sets.StateWithdrawn: "taken back", sets.StateElsewhere: "not for this host",
	}[s.State]
	if said == "" {
		said = string(s.State)
	}
	if s.Reason != "" {
		said += ": " + s.Reason
	}
	return said
}

func newFleetWithdraw() *cobra.Command {
	var (
		f    setFlags
		at   fleetFlags
		wait time.Duration
	)
	cmd := &cobra.Command{
		Use:   "withdraw NAME",
		Short: "Take a set of rules back from all hosts",
		Long: `Take a set of rules and lists back from all hosts. That is signed as the set was: a host
believes nobody else, and keeps a set that is merely gone from the servers. What the rules
have found stays in the evidence.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.withdraw(cmd.Context(), cmd.OutOrStdout(), &f, args[0], wait)
		},
	}
	at.add(cmd)
	cmd.Flags().StringVar(&f.key, "key", "", "secret key that signs, a `file` of culprit fleet keygen or minisign")
	cmd.Flags().Uint64Var(&f.version, "version-number", 0, "version, a `number` that rises (default: the time)")
	waitFlag(cmd, &wait)
	return cmd
}

// withdraw signs and publishes that a set is taken back.
func (f *fleetFlags) withdraw(ctx context.Context, w io.Writer, set *setFlags, name string, wait time.Duration) error {
	b, err := f.fleet()
	if err != nil {
		return err
	}
	s, err := set.empty(b.Name, name, time.Now())
	if err != nil {
		return err
	}
	s.Withdrawn = true
	// A set that ends by itself may be forgotten after that.
	before, err := f.published(ctx, name)
	switch {
	case err != nil:
		return err
	case before == nil:
		return fmt.Errorf("the servers have no set %s: `culprit fleet sets` lists them", text.Escape(name))
	case before.Set != nil && before.Set.Expires.After(s.Created):
		s.Expires = before.Set.Expires
	}
	set.follow(s, before.Set)
	signed, err := set.sign(s)
	if err != nil {
		return err
	}
	return f.publish(ctx, w, s, signed, nil, wait)
}
