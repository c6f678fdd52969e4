package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/fleet"
	"culprit/internal/text"
)

func newFleetHosts() *cobra.Command {
	var f mirrorFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hosts",
		Short: "List the hosts of the fleet, and how they are",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.read(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), func(yield func(json.RawMessage, error) bool) {
					for m, err := range r.Members() {
						if !yield(m.Document, err) {
							return
						}
					}
				})
			}
			hits, err := r.Hosts()
			if err != nil {
				return err
			}
			now := time.Now()
			_, err = printTable(cmd.OutOrStdout(), "HOST\tSTATE\tVERSION\tHITS\tWAITING\tLOST\tRULES\tBUNDLES\tLAST SEEN", r.Members(), func(m *catalogue.Member) []string {
				n := strconv.Itoa(hits[m.Host])
				s, err := fleet.ReadStatus(m.Host, m.Document)
				if err != nil {
					return []string{m.Host, err.Error(), "-", n, "-", "-", "-", "-", "-"}
				}
				return []string{
					m.Host, s.State(now), s.Version, n, strconv.FormatInt(s.Waiting, 10), strconv.FormatUint(s.Lost, 10),
					strconv.Itoa(max(len(s.Rules), s.RulesInAll)), s.Bundles, text.Time(s.Time),
				}
			})
			if n := unheard(r, hits); n > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s in the mirror say nothing of themselves: they are no members now\n", text.Plural(n, "other host"))
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what each host says of itself as JSON Lines")
	return cmd
}

// unheard counts the hosts that have hits, but are no members.
func unheard(r *catalogue.Reader, hits map[string]int) int {
	n := len(hits)
	for m, err := range r.Members() {
		if _, has := hits[m.Host]; has && err == nil {
			n--
		}
	}
	return n
}
