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
	Capture string // the capture's id
	Last    int    // only that many, the newest; 0: all

	// NoProofs leaves out the proofs of traces: a long trace can have many.
	NoProofs bool

	id         string    // only this one
	until      time.Time // only those before it
	alone      bool      // only hits without a capture
	unfinished bool      // only what is running
}

// query builds the statement. The newest come last, as ids sort by time.
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
	if f.Rule != "" {
		add("rule = ?", f.Rule)
	}
	if f.Capture != "" {
		column := "capture"
		if table == "captures" {
			column = "id"
		}
		add(column+" = ?", f.Capture)
	}
	if f.alone {
		where = append(where, "capture IS NULL")
	}
	if f.unfinished {
		where = append(where, unfinishedStates)
	}
	q := fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY id", columns, table, strings.Join(where, " AND "))
	if f.Last > 0 {
		q = fmt.Sprintf("SELECT * FROM (%s DESC LIMIT %d) ORDER BY id", q, f.Last)
	}
	return q, args
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
