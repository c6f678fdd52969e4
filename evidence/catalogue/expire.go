package evidence

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

// expiring are the tables whose rows go when they are too old.
var expiring = [...]string{"hits", "captures", "traces", "programs", "proofs", "losses"}

// change runs f in a transaction of its own. The catalogue has one connection, so it
// comes between two batches of the writer.
func (k *Keeper) change(ctx context.Context, f func(*sql.Tx) error) error {
	k.losses = nil
	tx, err := k.db.BeginTx(ctx, nil)
	if err == nil {
		defer tx.Rollback()
		err = f(tx)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("change the catalogue: %w", err)
	}
	for _, l := range k.losses {
		k.recorded(l)
	}
	return nil
}

// tell notes in the catalogue which trace files were removed and why, and counts them
// as lost. What cannot be noted now, on a full disk, is noted the next time.
func (k *Keeper) tell(ctx context.Context) error {
	for len(k.untold) > 0 {
		some := k.untold[:min(len(k.untold), rowsAtOnce)]
		err := k.change(ctx, func(tx *sql.Tx) error {
			count := map[event.LossDetail]uint64{}
			for _, r := range some {
				// In place: whoever writes the whole document knows nothing of this.
				if _, err := tx.Exec("UPDATE traces SET doc = json_set(doc, '$.culprit.removed', json_object('code', ?)) WHERE id = ?", string(r.Why), r.ID); err != nil {
					return err
				}
				code := event.LossTraceFiles
				if r.packets() {
					code = event.LossPacketFiles
				}
				count[event.LossDetail{Code: code, Detail: string(r.Why)}]++
			}
			return k.lose(tx, count)
		})
		if err != nil {
			return err
		}
		k.untold = k.untold[len(some):]
	}
	return nil
}

// lose records losses.
func (k *Keeper) lose(tx *sql.Tx, count map[event.LossDetail]uint64) error {
	for what, n := range count {
		l := event.NewLoss(what.Code, what.Detail, n)
		if _, err := tx.Exec(putLoss, l.Event.ID, string(what.Code), n, document(l)); err != nil {
			return err
		}
		k.losses = append(k.losses, l)
	}
	return nil
}

// firstID is the least id of that time or later.
func firstID(t time.Time) string {
	var id ulid.ULID
	if id.SetTime(uint64(max(0, t.UnixMilli()))) != nil {
		return "" // centuries away
	}
	return id.String()
}

// horizon is the id before which rows are too old. A capture that is running keeps
// what belongs to it: it was started by a hit a moment before.
func (k *Keeper) horizon(now time.Time) (string, error) {
	oldest := k.bounds.Load().oldest(now)
	running, err := idsOf(k.db, "SELECT id FROM captures WHERE "+unfinishedStates)
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

// expire removes the rows before the horizon, and adds to gone how many, by table.
func (k *Keeper) expire(ctx context.Context, horizon string, gone map[string]int64) error {
	for _, table := range expiring {
		for more := true; more; {
			err := k.change(ctx, func(tx *sql.Tx) error {
				n, err := affected(tx.Exec("DELETE FROM "+table+" WHERE id IN (SELECT id FROM "+table+" WHERE id < ? ORDER BY id LIMIT ?)", horizon, rowsAtOnce))
				more = n == rowsAtOnce
				gone[table] += n
				if err != nil || n == 0 || table == "losses" {
					return err
				}
				return k.lose(tx, map[event.LossDetail]uint64{{Code: event.LossOldRows, Detail: table}: uint64(n)})
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// expirable counts what expire would remove.
func (k *Keeper) expirable(horizon string) (map[string]int64, error) {
	count := map[string]int64{}
	for _, table := range expiring {
		var n int64
		if err := k.db.QueryRow("SELECT count(*) FROM "+table+" WHERE id < ?", horizon).Scan(&n); err != nil {
			return nil, fmt.Errorf("read the catalogue: %w", err)
		}
		count[table] = n
	}
	return count, nil
}

// shrink keeps the catalogue below half of max_bytes. In a flood of hits it is what
// grows, so the oldest hits and programs go, and traces whose file has gone. What a
// proof speaks of goes last, and of each trace the first proof stays: a program that is
// traced can send without end. It adds to gone how many, by table.
func (k *Keeper) shrink(ctx context.Context, gone map[string]int64) error {
	const (
		unprovenHits = "hits WHERE NOT EXISTS (SELECT 1 FROM proofs WHERE hit = hits.id)"
		removed      = "traces WHERE json_extract(doc, '$.culprit.removed') IS NOT NULL AND NOT EXISTS (SELECT 1 FROM proofs WHERE trace = traces.id)"
	)
	for {
		size, err := catalogueSize(k.db)
		if err != nil || size <= k.bounds.Load().MaxBytes/2 {
			return err
		}
		var limit string
		err = k.db.QueryRow("SELECT id FROM (SELECT id FROM "+unprovenHits+" UNION ALL SELECT id FROM programs) ORDER BY id LIMIT 1 OFFSET ?", rowsAtOnce).Scan(&limit)
		if errors.Is(err, sql.ErrNoRows) {
			if n, err := k.shrinkProofs(ctx, gone); err != nil || n == 0 {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
		err = k.change(ctx, func(tx *sql.Tx) error {
			lost := map[event.LossDetail]uint64{}
			for table, rows := range map[string]string{"hits": unprovenHits, "programs": "programs WHERE 1", "traces": removed} {
				n, err := affected(tx.Exec("DELETE FROM "+rows+" AND id < ?", limit))
				if err != nil {
					return err
				}
				if n > 0 {
					gone[table] += n
					lost[event.LossDetail{Code: event.LossManyRows, Detail: table}] = uint64(n)
				}
			}
			return k.lose(tx, lost)
		})
		if err != nil {
			return err
		}
	}
}

// shrinkProofs removes some of the oldest proofs that are not the first of their trace,
// with their hits, and returns how many.
func (k *Keeper) shrinkProofs(ctx context.Context, gone map[string]int64) (n int64, err error) {
	const repeated = "SELECT id FROM proofs AS p WHERE EXISTS (SELECT 1 FROM proofs AS q WHERE q.trace = p.trace AND q.id < p.id) ORDER BY id LIMIT ?"
	err = k.change(ctx, func(tx *sql.Tx) error {
		hits, err := affected(tx.Exec("DELETE FROM hits WHERE id IN (SELECT hit FROM proofs WHERE id IN ("+repeated+"))", rowsAtOnce))
		if err != nil {
			return err
		}
		if n, err = affected(tx.Exec("DELETE FROM proofs WHERE id IN ("+repeated+")", rowsAtOnce)); err != nil || n == 0 {
			return err
		}
		gone["proofs"] += n
		gone["hits"] += hits
		return k.lose(tx, map[event.LossDetail]uint64{{Code: event.LossRepeatProofs}: uint64(n)})
	})
	return n, err
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
