package catalogue

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// schema is version 1, to which migrations add. Documents are kept whole, as JSON; the columns
// beside them are for searching. The executable of a snapshot is the SHA-256 of its copy, NULL if
// there is none. Ids are ULIDs, so they sort by time. uid is NULL where the
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
`, `
CREATE TABLE snapshots (
	id TEXT PRIMARY KEY, rule TEXT, uid INTEGER, capture TEXT NOT NULL, hit TEXT, trace TEXT,
	executable TEXT, doc TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX snapshots_capture ON snapshots (capture);
CREATE INDEX snapshots_hit ON snapshots (hit);
CREATE INDEX snapshots_trace ON snapshots (trace);
CREATE INDEX snapshots_executable ON snapshots (executable);
`, hosts + names, `
CREATE TABLE events_fleet (sequence INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT NOT NULL);
CREATE TABLE outboxes (name TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
`, `
DROP INDEX proofs_trace;
CREATE INDEX proofs_line ON proofs (trace, doc ->> '$.culprit.line');
`, arrivals}

// arrivals numbers what comes: each transaction has a number, greater than that of any before, also of rows that were
// removed; 1 is what was there before there were numbers. A new catalogue begins with the time, so that who followed another in its place goes on.
const arrivals = `
ALTER TABLE hits ADD COLUMN arrived INTEGER NOT NULL DEFAULT 1;
ALTER TABLE captures ADD COLUMN arrived INTEGER NOT NULL DEFAULT 1;
ALTER TABLE proofs ADD COLUMN arrived INTEGER NOT NULL DEFAULT 1;
ALTER TABLE losses ADD COLUMN arrived INTEGER NOT NULL DEFAULT 1;
CREATE INDEX hits_arrived ON hits (arrived);
CREATE INDEX captures_arrived ON captures (arrived);
CREATE INDEX proofs_arrived ON proofs (arrived);
CREATE INDEX losses_arrived ON losses (arrived);
CREATE TABLE arrivals (number INTEGER NOT NULL);
INSERT INTO arrivals VALUES (unixepoch() * 1000);
`

// hosts says of which host of a fleet each row is; NULL: of our own. mirrors says how far a mirror has
// read, and members what the hosts last said of themselves.
const hosts = `
ALTER TABLE hits ADD COLUMN host TEXT;
ALTER TABLE captures ADD COLUMN host TEXT;
ALTER TABLE traces ADD COLUMN host TEXT;
ALTER TABLE programs ADD COLUMN host TEXT;
ALTER TABLE proofs ADD COLUMN host TEXT;
ALTER TABLE snapshots ADD COLUMN host TEXT;
ALTER TABLE losses ADD COLUMN host TEXT;
CREATE INDEX hits_host ON hits (host) WHERE host IS NOT NULL;
CREATE INDEX captures_host ON captures (host) WHERE host IS NOT NULL;
CREATE INDEX traces_host ON traces (host) WHERE host IS NOT NULL;
CREATE INDEX losses_host ON losses (host) WHERE host IS NOT NULL;
CREATE TABLE mirrors (stream TEXT PRIMARY KEY, created TEXT NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE members (host TEXT PRIMARY KEY, revision INTEGER NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
`

// names keeps the name that a hit asks for backwards, letter by letter: so an index finds all names below a
// domain.
const names = `
ALTER TABLE hits ADD COLUMN name TEXT;
UPDATE hits SET name = (
	WITH RECURSIVE turn (rest, turned) AS (
		SELECT substr(doc->>'$.dns.question.name', 1, 1024), ''
		UNION ALL SELECT substr(rest, 2), substr(rest, 1, 1) || turned FROM turn WHERE rest != ''
	) SELECT turned FROM turn WHERE rest = ''
) WHERE doc->>'$.dns.question.name' != '';
CREATE INDEX hits_name ON hits (name) WHERE name IS NOT NULL;
`

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

// Outdated reports whether the catalogue in dir is of an older version, so that opening it for writing upgrades it first. With
// millions of hits that takes minutes.
func Outdated(dir string) bool {
	path := filepath.Join(dir, fileName)
	if _, err := os.Lstat(path); err != nil {
		return false
	}
	db, err := database(path, true)
	if err != nil {
		return false
	}
	defer db.Close()
	var version int
	return db.QueryRow("PRAGMA user_version").Scan(&version) == nil && version > 0 && version < schemaVersion
}

// create makes an empty catalogue in dir, if there is none. It gets its name when it is whole:
// whoever only reads could not undo what a kill left in the middle.
func create(dir string) error {
	path := filepath.Join(dir, fileName)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, suffix := range suffixes {
		if err := os.Remove(path + unfinished + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("make the catalogue: %w", err)
		}
	}
	db, err := database(path+unfinished, false)
	if err == nil {
		err = errors.Join(upgrade(db, 0), db.Close())
	}
	if err != nil {
		return fmt.Errorf("make the catalogue: %w", err)
	}
	return os.Rename(path+unfinished, path)
}

// unfinished ends the name of a catalogue that is being made.
const unfinished = ".new"

// database opens one. Readers can work beside the one writer (write-ahead log).
func database(path string, readOnly bool) (*sql.DB, error) {
	// Only _pragma parameters count with this driver; others are ignored silently.
	q := url.Values{"_pragma": {"busy_timeout(5000)"}}
	if readOnly {
		q.Set("mode", "ro")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(NORMAL)")
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err == nil && !readOnly {
		db.SetMaxOpenConns(1) // SQLite has one writer
	}
	return db, err
}

// connect opens the catalogue in dir.
func connect(dir string, readOnly bool) (*sql.DB, error) {
	path := filepath.Join(dir, fileName)
	if !readOnly {
		if err := create(dir); err != nil {
			return nil, err
		}
	}
	db, err := database(path, readOnly)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
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
