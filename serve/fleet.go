package serve

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/internal/event"
	"culprit/internal/text"
)

// isFleet reports whether the evidence is the mirror of a fleet.
func isFleet(r *catalogue.Reader) (bool, error) {
	mirrors, err := r.Mirrors()
	return len(mirrors) > 0, err
}

// fleetStatus says how the hosts of a fleet are, and whether the mirror is kept up to date.
func (s *Server) fleetStatus(r *catalogue.Reader) (now status, err error) {
	now.Fleet = true
	alive, all := 0, 0
	for m, err := range r.Members() {
		if err != nil {
			return now, err
		}
		all++
		if one, err := fleet.ReadStatus(m.Host, m.Document); err == nil && one.State(time.Now()) == fleet.Alive {
			alive++
		}
	}
	now.Runs = alive == all && all > 0
	now.Daemon = fmt.Sprintf("%d of %s alive", alive, text.Plural(all, "host"))
	if pid, err := directory.Holder(s.dir); err != nil || pid == 0 {
		now.Runs = false
		now.Daemon += "; nobody keeps the mirror up to date: start culprit serve --fleet"
	}
	now.Losses, err = lost(r)
	return now, err
}

// hostRow is a host in the table. All its text is escaped.
type hostRow struct {
	Name, State, Version, Bundles, Time string
	Alive                               bool
	Hits                                int
	Waiting                             int64
	Lost                                uint64
	Rules                               int
	Sets                                string
	Link                                string // to its hits
}

// hosts shows the hosts of a fleet, and how they are.
func (s *Server) hosts(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, "hosts.html", func(reader *catalogue.Reader) (string, any, error) {
		hits, err := reader.Hosts()
		if err != nil {
			return "", nil, err
		}
		var all []hostRow
		for m, err := range reader.Members() {
			if err != nil {
				return "", nil, err
			}
			all = append(all, hostRowOf(&m, hits[m.Host], time.Now()))
			delete(hits, m.Host)
		}
		for _, name := range slices.Sorted(maps.Keys(hits)) {
			all = append(all, hostRow{Name: clip(name), State: "no member now", Hits: hits[name], Link: link(map[string][]string{hostField: {name}})})
		}
		slices.SortStableFunc(all, func(a, b hostRow) int { return cmp.Compare(a.Name, b.Name) })
		return "Hosts", all, nil
	})
}

func hostRowOf(m *catalogue.Member, hits int, now time.Time) hostRow {
	row := hostRow{Name: clip(m.Host), Hits: hits, Link: link(map[string][]string{hostField: {m.Host}})}
	s, err := fleet.ReadStatus(m.Host, m.Document)
	if err != nil {
		row.State = clip(err.Error())
		return row
	}
	row.State, row.Version, row.Bundles, row.Time = s.State(now), clip(s.Version), clip(s.Bundles), text.Time(s.Time)
	row.Alive, row.Waiting, row.Lost, row.Rules = row.State == fleet.Alive, s.Waiting, s.Lost, max(len(s.Rules), s.RulesInAll)
	var said []string
	for _, one := range s.Sets {
		what := fmt.Sprintf("%s %d: %s", one.Name, one.Version, strings.ReplaceAll(string(one.State), "_", " "))
		if one.State == sets.StateRefused {
			what += " (" + one.Reason + ")"
		}
		said = append(said, what)
	}
	row.Sets = text.Clip(text.Escape(strings.Join(said, "; ")), 600)
	return row
}

// maxAskers bounds the hosts that a hit names.
const maxAskers = 20

// whoElse says which hosts asked for the name of a hit, too.
func whoElse(r *catalogue.Reader, h *event.Hit) (string, error) {
	hits, err := r.Asked(h.DNS.Question.Name)
	if err != nil {
		return "", err
	}
	delete(hits, h.Host.Name)
	if len(hits) == 0 {
		return "no other host", nil
	}
	names := slices.SortedFunc(maps.Keys(hits), func(a, b string) int { return cmp.Or(cmp.Compare(hits[b], hits[a]), cmp.Compare(a, b)) })
	var said []string
	for _, name := range names[:min(len(names), maxAskers)] {
		said = append(said, fmt.Sprintf("%s (%s)", name, text.Plural(hits[name], "hit")))
	}
	if more := len(names) - len(said); more > 0 {
		said = append(said, text.Plural(more, "more host"))
	}
	return strings.Join(said, ", "), nil
}
