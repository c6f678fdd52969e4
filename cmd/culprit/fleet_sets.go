package main

import (
	"context"
	"encoding/json"
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
	"culprit/internal/config"
	"culprit/internal/text"
)

func newFleetSets() *cobra.Command {
	var (
		at     fleetFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "sets [NAME]",
		Short: "Show the signed sets of rules that the servers have, and what hosts make of them",
		Long: `Show the signed sets of rules and lists that the servers have, and what hosts make of them.
With NAME: what is in that set, who signed it, and what each host says of it.

Signatures are verified with fleet.keys of the configuration, if it has any. What hosts say is
only as good as the servers: who has them can make it up.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			b, err := at.fleet()
			if err != nil {
				return err
			}
			c, err := at.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			all, err := shelf.All(ctx, c)
			if err != nil {
				return err
			}
			hosts, err := allHosts(ctx, c)
			if err != nil {
				return err
			}
			var shown []shownSet
			for _, p := range all {
				if len(args) == 0 || p.Name == args[0] {
					shown = append(shown, newShownSet(p, hosts, b))
				}
			}
			if len(args) > 0 && len(shown) == 0 {
				return fmt.Errorf("the servers have no set %s: `culprit fleet sets` lists them", text.Escape(args[0]))
			}
			w := cmd.OutOrStdout()
			switch {
			case asJSON:
				e := json.NewEncoder(text.JSONWriter(w))
				for _, s := range shown {
					if err := e.Encode(s); err != nil {
						return err
					}
				}
				return nil
			case len(args) > 0:
				return shown[0].print(w)
			}
			return printSets(w, shown)
		},
	}
	at.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each set")
	return cmd
}

// allHosts returns what all hosts say of themselves.
func allHosts(ctx context.Context, c *fleet.Conn) (all []fleet.Status, err error) {
	err = shelf.Hosts(ctx, c, func() bool { return false }, func(h fleet.Status) bool {
		all = append(all, h)
		return true
	})
	return all, err
}

// A shownSet is a set with what is known of it.
type shownSet struct {
	Name      string       `json:"name"`
	Published time.Time    `json:"published"`
	Verified  bool         `json:"verified"` // a key of the configuration has signed it
	Problem   string       `json:"problem,omitempty"`
	Set       *sets.Set    `json:"set,omitempty"`
	Answers   []hostAnswer `json:"hosts"`
}

type hostAnswer struct {
	Host string `json:"host"`
	sets.Status
}

func newShownSet(p shelf.Place, hosts []fleet.Status, b config.Fleet) shownSet {
	s := shownSet{Name: p.Name, Published: p.Published, Set: p.Set}
	if p.Err != nil {
		s.Problem = p.Err.Error()
	}
	if keys, _ := sets.ParseKeys(b.Keys); len(keys) > 0 && p.Err == nil {
		if _, err := (sets.Trust{Fleet: b.Name, Keys: keys}).Verify(p.Name, p.Signed); err != nil {
			s.Problem = err.Error()
		} else {
			s.Verified = true
		}
	}
	for _, h := range hosts {
		if status, knows := shelf.Of(h, p.Name); knows {
			s.Answers = append(s.Answers, hostAnswer{h.Host, status})
		}
	}
	return s
}

// state says what the set is, without the hosts.
func (s *shownSet) state() string {
	switch {
	case s.Problem != "":
		return "NOT BELIEVED"
	case s.Set.Withdrawn:
		return "withdrawn"
	case s.Set.Expired(time.Now()):
		return "over"
	case s.Set.Ended != nil:
		return "for good"
	case s.Set.Expires.IsZero():
		return "until withdrawn"
	}
	return "until " + text.Time(s.Set.Expires)
}

func (s *shownSet) count(state sets.State) (n int) {
	for _, a := range s.Answers {
		if a.State == state && (state != sets.StateInForce || s.Set != nil && a.Version == s.Set.Version) {
			n++
		}
	}
	return n
}

func printSets(w io.Writer, all []shownSet) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SET\tVERSION\tSTATE\tCONTENT\tHOSTS\tIN FORCE\tREFUSED")
	for _, s := range all {
		version, content, hosts := "?", "?", "?"
		if s.Set != nil {
			version, content, hosts = fmt.Sprint(s.Set.Version), contents(s.Set), whom(s.Set)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%d\n", clip(s.Name), version, s.state(), content, text.Clip(hosts, 40), s.count(sets.StateInForce), s.count(sets.StateRefused))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range all {
		if s.Problem != "" {
			fmt.Fprintf(w, "\n%s: %s\n", clip(s.Name), text.Escape(s.Problem))
		}
	}
	return nil
}

// print shows everything of one set.
func (s *shownSet) print(w io.Writer) error {
	fmt.Fprintf(w, "set %s\n", text.Escape(s.Name))
	line := func(key, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", key, text.Escape(fmt.Sprintf(format, args...)))
	}
	line("state", "%s", s.state())
	if s.Problem != "" {
		line("problem", "%s", s.Problem)
	}
	if s.Set != nil {
		line("version", "%d, made %s, published %s", s.Set.Version, text.Time(s.Set.Created), text.Time(s.Published))
		line("hosts", "%s", whom(s.Set))
		for _, r := range s.Set.Rules {
			line("rule", "%s", ruleLine(r))
		}
		for _, name := range slices.Sorted(maps.Keys(s.Set.Ended)) {
			line("ended", "%s, up to version %d", name, s.Set.Ended[name])
		}
		for _, l := range s.Set.Lists {
			line("list", "%s, %s, SHA-256 %s", l.Name, text.Size(l.Size), l.SHA256)
		}
	}
	switch {
	case s.Verified:
		line("signature", "good, by a key of fleet.keys")
	case s.Problem == "":
		line("signature", "not verified: fleet.keys of this configuration is empty")
	}
	for _, a := range s.Answers {
		said := stateWords(a.Status)
		if a.InForce != 0 && (a.State != sets.StateInForce || s.Set != nil && a.InForce != s.Set.Version) {
			said += fmt.Sprintf("; version %d is in force there", a.InForce)
		}
		line("on "+a.Host, "%s", said)
	}
	return nil
}

// ruleLine says what a rule looks for.
func ruleLine(r config.Rule) string {
	what := "domain " + r.Domain
	switch {
	case r.String != "":
		what = "string " + r.String
	case r.Hex != "":
		what = "hex " + r.Hex
	case r.IsList():
		what = "lists " + strings.Join(r.List, ", ")
		if len(r.Except) > 0 {
			what += " except " + strings.Join(r.Except, ", ")
		}
	}
	return r.Name + ": " + what
}
