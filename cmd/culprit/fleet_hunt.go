package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/fleet/shelf"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func newFleetHunt() *cobra.Command {
	h := hunt{}
	cmd := &cobra.Command{
		Use:   "hunt",
		Short: "Look for something on all hosts for some time, and show what comes",
		Long: `Put one rule in force on all hosts (--hosts: on some) for some time, and show which hosts took
it, which refused it and why, and each hit as it comes:

  culprit fleet hunt --string BADZONE --for 2h --key fleet.key

The rule is a signed set, which ends by itself by the clocks of the hosts, also of those that
lose the servers. Ctrl-C ends only the showing; the hosts hunt on. With --withdraw the set is
taken back then.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return h.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	h.at.add(cmd)
	h.set.add(cmd)
	cmd.Flags().Lookup("for").DefValue, h.set.last = "1h", "1h"
	cmd.Flags().Lookup("for").Usage = "how long the hosts look for it, such as 2h, by their clocks"
	cmd.Flags().Lookup("name").Usage = "name of the set and of its rule (default: hunt- and a number)"
	cmd.Flags().StringVar(&h.rule.String, "string", "", "`text` to look for, as string of a rule")
	cmd.Flags().StringVar(&h.rule.Hex, "hex", "", "`bytes` to look for, as hex of a rule")
	cmd.Flags().StringVar(&h.rule.Domain, "domain", "", "`domain` to look for, as domain of a rule")
	cmd.Flags().StringSliceVar((*[]string)(&h.rule.List), "list", nil, "`file` with domains to look for, as list of a rule")
	cmd.Flags().IntSliceVar(&h.rule.Ports, "ports", nil, "destination `ports` (default: 53)")
	cmd.Flags().BoolVar(&h.withdraw, "withdraw", false, "take the set back when the showing ends")
	return cmd
}

// hunt is one rule for all hosts.
type hunt struct {
	at       fleetFlags
	set      setFlags
	rule     config.Rule
	withdraw bool
}

func (h *hunt) run(ctx context.Context, stdout, stderr io.Writer) error {
	b, err := h.at.fleet()
	if err != nil {
		return err
	}
	id := strings.ToLower(ulid.Make().String())
	name := h.set.name
	if name == "" {
		name = "hunt-" + id[:10] + id[22:] // time, and some of what is random
	}
	h.rule.Name = name
	for i, path := range h.rule.List {
		if h.rule.List[i], err = filepath.Abs(path); err != nil {
			return err
		}
	}
	c := config.Default()
	c.Rules = []config.Rule{h.rule.Filled()}
	if wrong := config.CheckRules(c.Rules); len(wrong) > 0 {
		var errs []error
		for _, p := range wrong {
			key := strings.TrimPrefix(strings.TrimPrefix(p.Key, "rules[0]"), ".")
			errs = append(errs, fmt.Errorf("--%s: %s", strings.TrimSuffix(key, "[0]"), p.Text))
			if key == "" {
				errs[len(errs)-1] = errors.New("give one of --string, --hex, --domain and --list")
			}
		}
		return usageError{errors.Join(errs...)}
	}
	s, paths, err := h.set.of(ctx, b.Name, name, &c, stderr)
	if err != nil {
		return err
	}
	signed, err := h.set.sign(s)
	if err != nil {
		return err
	}
	conn, err := h.at.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := h.show(ctx, conn, stdout, s, signed, paths); err != nil {
		return err
	}
	if !h.withdraw {
		fmt.Fprintf(stdout, "the hosts look for it until %s; to end that: culprit fleet withdraw %s --key %s\n", until(s), name, text.Quote([]string{h.set.key}))
		return nil
	}
	const longest = 15 * time.Second // Ctrl-C has ended the context
	after, end := context.WithTimeout(context.WithoutCancel(ctx), longest)
	defer end()
	return h.at.withdraw(after, stdout, &h.set, name, longest/2)
}

// show publishes the set, and prints what the hosts say and find until it ends, or the context.
func (h *hunt) show(ctx context.Context, conn *fleet.Conn, w io.Writer, s *sets.Set, signed sets.Signed, paths map[string]string) error {
	ctx, end := context.WithDeadline(ctx, s.Expires)
	defer end()
	read, err := shelf.Hits(ctx, conn, s.Name) // before any host can have a hit
	if err != nil {
		return err
	}
	if err := shelf.Put(ctx, conn, signed, paths); err != nil {
		return err
	}
	var mu sync.Mutex // two goroutines print
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "%s %s\n", text.Time(time.Now()), text.Escape(fmt.Sprintf(format, args...)))
	}
	say("the set %s is published: %s, for %s, until %s", s.Name, ruleLine(s.Rules[0]), whom(s), until(s))
	if err := shelf.Tidy(ctx, conn, time.Now()); err != nil && ctx.Err() == nil { // the next one does it
		say("%v", err)
	}
	hosts := make(chan error, 1)
	go func() {
		said := map[string]string{}
		hosts <- shelf.Hosts(ctx, conn, func() bool { return true }, func(one fleet.Status) bool {
			status, knows := shelf.Of(one, s.Name)
			if line := stateWords(status); knows && status.State != sets.StateElsewhere && said[one.Host] != line {
				said[one.Host] = line
				say("%s: %s", one.Host, line)
			}
			return true
		})
	}()
	err = read(func(host string, hit *event.Hit) {
		say("%s: hit %s, user %s asks %s, from %s", host, hit.Event.ID, hit.User, hit.Asks(), text.Clip(words.Sender(hit), 200))
	})
	end()
	return errors.Join(err, <-hosts)
}
