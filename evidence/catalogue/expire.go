package catalogue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/internal/event"
)

// rowsAtOnce bounds the rows that one transaction removes: hits are written between
// one and the next.
const rowsAtOnce = 2000

// A RemovedFile is a file of the evidence that was removed: that of a trace, the copy of an
// executable, or, with neither, the packets of a capture.
type RemovedFile struct {
	Trace      string // its id
	Executable string // its SHA-256
	Because    event.RemovedCode
}

// NoteRemoved records why files were removed, and counts them as lost. It returns how many of
// them it recorded.
func (c *Catalogue) NoteRemoved(ctx context.Context, files []RemovedFile) (noted int, err error) {
	for noted < len(files) {
		some := files[noted:min(noted+rowsAtOnce, len(files))]
		err := c.sweep(ctx, func(t *transaction) {
			count := map[event.LossDetail]uint64{}
			for _, f := range some {
				code := event.LossPacketFiles
				// In place: whoever else writes the documents does not know of the removal.
				switch {
				case f.Executable != "":
					code = event.LossExecutables
					t.exec("UPDATE snapshots SET executable = NULL, doc = json_set(doc, '$.culprit.removed', json_object('code', ?)) WHERE executable = ?", string(f.Because), f.Executable)
				case f.Trace != "":
					code = event.LossTraceFiles
					t.exec("UPDATE traces SET doc = json_set(doc, '$.culprit.removed', json_object('code', ?)) WHERE id = ?", string(f.Because), f.Trace)
				}
				count[event.LossDetail{Code: code, Detail: string(f.Because)}]++
			}
			for what, n := range count {
				t.putLoss(event.NewLoss(what.Code, what.Detail, n))
			}
		})
		if err != nil {
			return noted, err
		}
		noted += len(some)
	}
	return noted, nil
}

// sweep runs a transaction between two of the writer.
func (c *Catalogue) sweep(ctx context.Context, f func(*transaction)) error {
	if err := c.change(ctx, f); err != nil {
		return fmt.Errorf("change the catalogue: %w", err)
	}
	return nil
}

// own returns a reader on the writer's own connection, which never shows a catalogue that was
// set aside.
func (c *Catalogue) own() *Reader {
	return &Reader{db: c.db, dir: c.dir.Path(), ctx: context.Background()}
}

// Expire removes the rows from before a time, except those of a running capture. It adds how
// many to gone, by table.
func (c *Catalogue) Expire(ctx context.Context, oldest time.Time, gone map[string]int64) error {
	horizon := firstID(oldest)
	if !c.mirror { // a host that is gone does not say that its captures have ended
		var err error
		if horizon, err = c.own().horizon(oldest); err != nil {
			return err
		}
	}
	for _, table := range tables {
		for n := int64(rowsAtOnce); n == rowsAtOnce; gone[table] += n {
			err := c.sweep(ctx, func(t *transaction) {
				n = t.exec("DELETE FROM "+table+" WHERE id IN (SELECT id FROM "+table+" WHERE id < ? ORDER BY id LIMIT ?)", horizon, rowsAtOnce)
				if n > 0 && table != "losses" {
					t.putLoss(event.NewLoss(event.LossOldRows, table, uint64(n)))
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// horizon returns the id before which rows are too old. A running capture is kept, with the hit
// that started it a moment before.
func (r *Reader) horizon(oldest time.Time) (string, error) {
	running, err := r.RunningCaptures()
	if err != nil {
		return "", err
	}
	for text := range running {
		if id, err := ulid.ParseStrict(text); err == nil {
			if before := id.Timestamp().Add(-time.Minute); before.Before(oldest) {
				oldest = before
			}
		}
	}
	return firstID(oldest), nil
}

// Expirable counts the rows that Expire would remove, by table.
func (r *Reader) Expirable(oldest time.Time) (map[string]int64, error) {
	horizon, err := r.horizon(oldest)
	if err != nil {
		return nil, err
	}
	count := map[string]int64{}
	for _, table := range tables {
		var n int64
		if err := r.db.QueryRow("SELECT count(*) FROM "+table+" WHERE id < ?", horizon).Scan(&n); err != nil {
			return nil, fmt.Errorf("read the catalogue: %w", err)
		}
		count[table] = n
	}
	return count, nil
}

// Size returns how many bytes the catalogue uses, without the events that wait to be sent out,
// which have a bound of their own. Its file may be larger: it does not shrink, but SQLite uses
// the free pages again.
func (r *Reader) Size() (size int64, err error) {
	const query = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
	if err := r.db.QueryRow(query).Scan(&size); err != nil {
		return 0, fmt.Errorf("ask for the size of the catalogue: %w", err)
	}
	for _, b := range []box{eventsBox, fleetBox} {
		var waiting, events int64
		if err := r.db.QueryRow(b.size).Scan(&waiting, &events); err != nil {
			return 0, fmt.Errorf("ask for the size of the events that wait: %w", err)
		}
		size -= events
	}
	return max(0, size), nil
}

// Shrink keeps the catalogue below a size in bytes. It removes the oldest hits, programs and
// snapshots, which are what grows in a flood, and traces whose file was removed. Proven hits go last, as a
// traced program can send without end; the first proof of each trace stays. Shrink adds how many
// rows it removed to gone, by table.
func (c *Catalogue) Shrink(ctx context.Context, most int64, gone map[string]int64) error {
	const (
		unprovenHits = "hits WHERE NOT EXISTS (SELECT 1 FROM proofs WHERE hit = hits.id)"
		unprovenSnap = "snapshots WHERE NOT EXISTS (SELECT 1 FROM proofs WHERE proofs.hit = snapshots.hit OR proofs.trace = snapshots.trace)"
		removed      = "traces WHERE json_extract(doc, '$.culprit.removed') IS NOT NULL AND NOT EXISTS (SELECT 1 FROM proofs WHERE trace = traces.id)"
	)
	for {
		size, err := c.own().Size()
		if err != nil || size <= most {
			return err
		}
		var limit string
		err = c.db.QueryRow("SELECT id FROM (SELECT id FROM "+unprovenHits+" UNION ALL SELECT id FROM programs UNION ALL SELECT id FROM "+unprovenSnap+") ORDER BY id LIMIT 1 OFFSET ?", rowsAtOnce).Scan(&limit)
		if errors.Is(err, sql.ErrNoRows) {
			// Snapshots are large: there need not be many of them.
			if n, err := c.shrinkSnapshots(ctx, unprovenSnap, gone); err != nil || n > 0 {
				if err != nil {
					return err
				}
				continue
			}
			if n, err := c.shrinkProofs(ctx, gone); err != nil || n == 0 {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
		count := map[string]int64{}
		err = c.sweep(ctx, func(t *transaction) {
			for table, rows := range map[string]string{"hits": unprovenHits, "programs": "programs WHERE 1", "traces": removed, "snapshots": unprovenSnap} {
				if n := t.exec("DELETE FROM "+rows+" AND id < ?", limit); n > 0 {
					count[table] = n
					t.putLoss(event.NewLoss(event.LossManyRows, table, uint64(n)))
				}
			}
		})
		if err != nil {
			return err
		}
		for table, n := range count {
			gone[table] += n
		}
	}
}

// snapshotsAtOnce is how many snapshots, of some 40 KB each, are removed at a time.
const snapshotsAtOnce = 50

// shrinkSnapshots removes some of the oldest snapshots that are left of some rows. It returns how
// many.
func (c *Catalogue) shrinkSnapshots(ctx context.Context, rows string, gone map[string]int64) (n int64, err error) {
	err = c.sweep(ctx, func(t *transaction) {
		n = t.exec("DELETE FROM snapshots WHERE id IN (SELECT id FROM "+rows+" ORDER BY id LIMIT ?)", snapshotsAtOnce)
		if n > 0 {
			t.putLoss(event.NewLoss(event.LossManyRows, "snapshots", uint64(n)))
		}
	})
	if err == nil && n > 0 {
		gone["snapshots"] += n
	}
	return n, err
}

// shrinkProofs removes some of the oldest proofs, with their hits, except the first proof of
// each trace. It returns how many proofs it removed.
func (c *Catalogue) shrinkProofs(ctx context.Context, gone map[string]int64) (n int64, err error) {
	const repeated = "SELECT id FROM proofs AS p WHERE EXISTS (SELECT 1 FROM proofs AS q WHERE q.trace = p.trace AND q.id < p.id) ORDER BY id LIMIT ?"
	var hits int64
	err = c.sweep(ctx, func(t *transaction) {
		t.exec("DELETE FROM snapshots WHERE hit IN (SELECT hit FROM proofs WHERE id IN ("+repeated+"))", rowsAtOnce)
		hits = t.exec("DELETE FROM hits WHERE id IN (SELECT hit FROM proofs WHERE id IN ("+repeated+"))", rowsAtOnce)
		if n = t.exec("DELETE FROM proofs WHERE id IN ("+repeated+")", rowsAtOnce); n > 0 {
			t.putLoss(event.NewLoss(event.LossRepeatProofs, "", uint64(n)))
		}
	})
	if err != nil {
		return 0, err
	}
	gone["proofs"] += n
	gone["hits"] += hits
	return n, nil
}
