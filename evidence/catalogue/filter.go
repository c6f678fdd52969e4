package catalogue

import (
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/internal/event"
)

// Filter selects documents. The zero Filter selects all.
type Filter struct {
	Since   time.Time
	UID     *uint32
	Rule    string
	Host    string // of a fleet
	Capture string // the capture's id
	List    string // the name or path of a list: only hits of its entries
	Name    string // a domain: only hits that ask for it, or for a name below it
	Last    int    // only that many, the newest; 0: all
	Before  string // an id: only older documents
	Arrived Arrivals
	Place

	// NoProofs leaves out the proofs of traces: a long trace can have many.
	NoProofs bool

	id         string    // only this one
	until      time.Time // only those before it
	alone      bool      // only hits without a capture
	unfinished bool      // only what is running
	common     bool      // so many ask for the name that its index does not help
	contained  bool      // few are in the container, and a mirror's indices find them
	ofList     bool      // few are of the list, and a mirror's indices find them
}

// Place selects by the container that a process is in. What is on the host has none.
type Place struct {
	Container string // its name, or the begin of its id; also those of the container around it
	Pod       string // NAME, NAMESPACE/NAME or the pod's id
	Image     string // a part of its name, in any case
}

// conditions calls add for each condition.
func (p Place) conditions(add func(cond string, arg any)) {
	if p.Container != "" {
		const id, outer = "doc->>'$.container.id'", "doc->>'$.container.parent.id'"
		add("EXISTS (SELECT 1 FROM (SELECT ? AS wanted) WHERE wanted IN (doc->>'$.container.name', doc->>'$.container.parent.name', substr("+
			id+", 1, length(wanted)), substr("+outer+", 1, length(wanted))))", p.Container)
	}
	if p.Pod != "" {
		const name = "doc->>'$.orchestrator.resource.name'"
		add("? IN ("+name+", (doc->>'$.orchestrator.namespace') || '/' || ("+name+"), doc->>'$.orchestrator.resource.id')", p.Pod)
	}
	if p.Image != "" {
		add("instr(lower(doc->>'$.container.image.name'), lower(?)) > 0", p.Image)
	}
}

// query builds the statement. The newest come last, as ids sort by time, or what arrived last.
func (f Filter) query(table, columns string) (string, []any) {
	where, args := []string{"1"}, []any{}
	add := func(cond string, arg any) {
		where = append(where, cond)
		args = append(args, arg)
	}
	if !f.Since.IsZero() {
		add("id >= ?", firstID(f.Since))
	}
	if !f.until.IsZero() {
		add("id < ?", firstID(f.until))
	}
	if f.id != "" {
		add("id = ?", f.id)
	}
	if f.UID != nil {
		add("uid = ?", *f.UID)
	}
	if f.Host != "" {
		add("host = ?", f.Host)
	}
	if f.Rule != "" {
		add("rule = ?", f.Rule)
	}
	if f.List != "" && !f.ofList {
		add("? IN (doc->>'$.threat.feed.name', doc->>'$.culprit.listed.file')", f.List)
	}
	among := func(ids, key string) {
		add(strings.ReplaceAll("id IN ("+ids+")", "?1", fmt.Sprintf("?%d", len(args)+1)), key)
	}
	if f.ofList {
		among(onList, f.List)
	}
	place := f.Place
	if f.contained {
		among(inContainer, f.Container)
		place.Container = ""
	}
	switch {
	case f.Name == "":
	case f.common: // in the order of ids, until there are enough
		add(strings.ReplaceAll("(+name = ?1 OR +name >= ?1 || '.' AND +name < ?1 || '/')", "?1", fmt.Sprintf("?%d", len(args)+1)), nameKey(f.Name))
	default:
		among(namedBelow, nameKey(f.Name))
	}
	if f.Before != "" {
		add("id < ?", f.Before)
	}
	if f.Arrived.UpTo > 0 {
		add("arrived > ?", f.Arrived.After)
		add("arrived <= ?", f.Arrived.UpTo)
	}
	if f.Capture != "" {
		column := "capture"
		if table == "captures" {
			column = "id"
		}
		add(column+" = ?", f.Capture)
	}
	place.conditions(add)
	if f.alone {
		where = append(where, "capture IS NULL")
	}
	if f.unfinished {
		where = append(where, unfinishedStates)
	}
	const selected = "SELECT %s FROM %s WHERE %s ORDER BY %s"
	if f.Arrived.UpTo > 0 {
		if f.Last > 0 {
			newest := fmt.Sprintf(selected+" LIMIT %d", "id", table, strings.Join(where, " AND "), "arrived DESC, id DESC", f.Last)
			where = []string{"id IN (" + newest + ")"}
		}
		return fmt.Sprintf(selected, columns, table, strings.Join(where, " AND "), "arrived, id"), args
	}
	q := fmt.Sprintf(selected, columns, table, strings.Join(where, " AND "), "id")
	if f.Last > 0 {
		q = fmt.Sprintf("SELECT * FROM (%s DESC LIMIT %d) ORDER BY id", q, f.Last)
	}
	return q, args
}

// namedBelow are the hits that ask for a name, or for one below it.
const namedBelow = "SELECT id FROM hits WHERE name = ?1 UNION ALL SELECT id FROM hits WHERE name >= ?1 || '.' AND name < ?1 || '/'"

// nameKey is a name as the catalogue has it.
func nameKey(name string) string { return backwards(strings.ToLower(strings.Trim(name, "."))) }

// many is how many hits are so many that their index does not help to find the newest.
const many = 10_000

// planned returns a filter that knows of which of its conditions an index helps.
func (r *Reader) planned(f Filter) Filter {
	if f.Name != "" {
		f.common = r.hasMany(namedBelow, nameKey(f.Name))
	}
	if (f.Container != "" || f.List != "") && r.indexed() {
		f.contained = f.Container != "" && !r.hasMany(inContainer, f.Container)
		f.ofList = f.List != "" && !r.hasMany(onList, f.List)
	}
	return f
}

// few reports whether a planned filter selects so few hits that there is an index for them.
func (f Filter) few() bool { return f.contained || f.ofList || f.Name != "" && !f.common }

func (r *Reader) hasMany(ids, key string) bool {
	var n int
	err := r.db.QueryRowContext(r.ctx, fmt.Sprintf("SELECT count(*) FROM (%s LIMIT %d)", ids, many), key).Scan(&n)
	return err == nil && n == many
}

// unfinishedStates is the condition for captures and traces that are running.
const unfinishedStates = "state IN ('" + event.StateRunning + "', '" + event.StateDraining + "')"

// firstID returns the lowest possible id of that time.
func firstID(t time.Time) string {
	var id ulid.ULID
	if id.SetTime(uint64(max(0, t.UnixMilli()))) != nil {
		return "" // centuries away
	}
	return id.String()
}

// idTime returns the time of an id.
func idTime(id string) (time.Time, error) {
	parsed, err := ulid.Parse(id)
	return parsed.Timestamp(), err
}
