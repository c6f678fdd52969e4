package evidence

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"culprit/evidence/tracefile"
	"culprit/internal/event"
)

// unfinishedStates is the condition for captures and traces that are running.
const unfinishedStates = "state IN ('" + event.StateRunning + "', '" + event.StateDraining + "')"

// scan lists the traces and packets on the disk. What is there counts, not what the
// catalogue says; but only the catalogue knows what is still written to.
func (k *Keeper) scan() ([]stored, error) {
	running, err := idsOf(k.db, "SELECT id FROM captures WHERE "+unfinishedStates)
	if err != nil {
		return nil, err
	}
	proven, err := proven(k.db)
	if err != nil {
		return nil, err
	}
	captures, err := fs.ReadDir(k.dir.root.FS(), tracesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for traces: %w", err)
	}
	var all []stored
	for _, c := range captures {
		if !c.IsDir() {
			continue
		}
		traces, err := k.scanCapture(c.Name())
		if err != nil {
			return nil, err
		}
		for _, t := range traces {
			t.running = running[t.capture]
			t.proven = proven[t.id.String()]
			all = append(all, t)
		}
	}
	return all, nil
}

// scanCapture lists the traces of one capture, and its packets.
func (k *Keeper) scanCapture(capture string) (traces []stored, err error) {
	dir := path.Join(tracesDir, capture)
	files, err := fs.ReadDir(k.dir.root.FS(), dir) // sorted: the forms of a trace are neighbours
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // beside a daemon, which has just removed it
	}
	if err != nil {
		return nil, fmt.Errorf("look for the traces of a capture: %w", err)
	}
	var closed map[string]bool // asked for when it is needed
	for _, f := range files {
		name, unfinished := strings.CutSuffix(f.Name(), tracefile.Unfinished)
		name, compressed := strings.CutSuffix(name, tracefile.Suffix)
		_, id, ok := parseName(name)
		packets := strings.TrimSuffix(name, ".tmp") == packetsName
		if packets {
			name = packetsName
			id, err = ulid.ParseStrict(capture)
			ok = err == nil
		}
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue // it is not ours, or has just gone
		}
		name = path.Join(dir, name)
		if n := len(traces); n == 0 || traces[n-1].name != name {
			traces = append(traces, stored{id: id, capture: capture, name: name})
		}
		t := &traces[len(traces)-1]
		t.size += onDisk(info)
		switch {
		case unfinished:
			t.unfinished = true
		case !compressed && !packets: // what is compressed is closed
			t.plain = true
			if closed == nil {
				if closed, err = idsOf(k.db, "SELECT id FROM traces WHERE capture = ? AND NOT "+unfinishedStates, capture); err != nil {
					return nil, err
				}
			}
			t.open = !closed[id.String()]
		}
	}
	return traces, nil
}

// onDisk is how many bytes a file takes on the disk.
func onDisk(info fs.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks * 512 }

// proven are the ids of the traces and captures that have a proof.
func proven(db *sql.DB) (map[string]bool, error) {
	return idsOf(db, "SELECT trace FROM proofs UNION SELECT capture FROM proofs")
}

// idsOf returns the ids that a query yields.
func idsOf(db *sql.DB, query string, args ...any) (map[string]bool, error) {
	ids := map[string]bool{}
	for id, err := range rows(db, query, args, func(id *string, scan func(...any) error) error { return scan(id) }) {
		if err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, nil
}

// usage measures what the traces are not.
func (k *Keeper) usage() (u usage, err error) {
	if u.free, err = k.free(); err != nil {
		return u, err
	}
	u.catalogue, err = catalogueSize(k.db)
	return u, err
}

// free is how many bytes are free on the file system of the evidence.
func (k *Keeper) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(k.dir.Path(), &st); err != nil {
		return 0, fmt.Errorf("ask for the free disk of %s: %w", k.dir.Path(), err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// catalogueSize is how many bytes the catalogue uses, without the events that wait to be
// sent out, which have a bound of their own. Its file may be larger: it does not shrink,
// but what is free in it is used again.
func catalogueSize(db *sql.DB) (size int64, err error) {
	const query = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
	if err := db.QueryRow(query).Scan(&size); err != nil {
		return 0, fmt.Errorf("ask for the size of the catalogue: %w", err)
	}
	var waiting, events int64
	if err := db.QueryRow(waitingSize).Scan(&waiting, &events); err != nil {
		return 0, fmt.Errorf("ask for the size of the events that wait: %w", err)
	}
	return max(0, size-events), nil
}
