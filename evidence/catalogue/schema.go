package catalogue

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// schema is version 1, to which migrations add. Documents are kept whole, as JSON; the columns
// beside them are for searching. Ids are ULIDs, so they sort by time. uid is NULL where the
// kernel gave none.
const schema = `
CREATE TABLE hits (
	id TEXT PRIMARY KEY, rule TEXT, uid INTEGER, capture TEXT,
	count INTEGER NOT NULL, doc TEXT NOT NULL, packet BLOB
) WITHOUT ROWID;
CREATE INDEX hits_capture ON hits (capture);
CREATE TABLE captures (
	id TEXT PRIMARY KEY, rule TEXT, uid INTEGER, state TEXT NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE traces (
	id TEXT PRIMARY KEY, rule TEXT, uid INTEGER, capture TEXT NOT NULL, hit TEXT,
	state TEXT NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX traces_capture ON traces (capture);
CREATE INDEX traces_hit ON traces (hit);
CREATE TABLE programs (
	id TEXT PRIMARY KEY, uid INTEGER, capture TEXT NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX programs_capture ON programs (capture);
CREATE TABLE losses (
	id TEXT PRIMARY KEY, what TEXT NOT NULL, count INTEGER NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
`

// migrations bring a catalogue from version 1, 2, … to the next.
var migrations = []string{`
CREATE TABLE proofs (
	id TEXT PRIMARY KEY, rule TEXT, uid INTEGER, capture TEXT NOT NULL,
	trace TEXT NOT NULL, hit TEXT NOT NULL, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX proofs_capture ON proofs (capture);
CREATE INDEX proofs_trace ON proofs (trace);
CREATE INDEX proofs_hit ON proofs (hit);
`, `
CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT NOT NULL);
`, `
ALTER TABLE losses RENAME COLUMN what TO code;
`}

// schemaVersion is the one version that this culprit writes and reads.
var schemaVersion = 1 + len(migrations)

// upgrade makes the tables of an empty catalogue (version 0), or upgrades older ones, all or
// nothing.
func upgrade(db *sql.DB, version int) error {
	var todo strings.Builder
	todo.WriteString("BEGIN;")
	if version == 0 {
		todo.WriteString(schema)
		version = 1
	}
	for _, m := range migrations[version-1:] {
		todo.WriteString(m)
	}
	fmt.Fprintf(&todo, "PRAGMA user_version = %d; COMMIT;", schemaVersion)
	_, err := db.Exec(todo.String())
	return err
}

// connect opens the catalogue in dir. Readers can work beside the one writer (write-ahead log).
func connect(dir string, readOnly bool) (*sql.DB, error) {
	// Only _pragma parameters count with this driver; others are ignored silently.
	q := url.Values{"_pragma": {"busy_timeout(5000)"}}
	if readOnly {
		q.Set("mode", "ro")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(NORMAL)")
	}
	path := filepath.Join(dir, fileName)
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if !readOnly {
		db.SetMaxOpenConns(1) // SQLite has one writer
	}
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	switch {
	case version < schemaVersion && !readOnly:
		err = upgrade(db, version)
	case version == 0:
		err = fmt.Errorf("it is empty: culprit has not run yet")
	case version < schemaVersion:
		err = fmt.Errorf("it has version %d, of an older culprit: `culprit run` of this version upgrades it to %d", version, schemaVersion)
	case version > schemaVersion:
		err = fmt.Errorf("it has version %d, of a newer culprit; this one knows version %d", version, schemaVersion)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}
