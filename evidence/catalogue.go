package evidence

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// catalogueName is the file of the catalogue in the evidence directory. It is an
// ordinary SQLite 3 data base: `sqlite3 catalogue.db` can look at it too.
const catalogueName = "catalogue.db"

// schema is version 1. Each document is kept whole, as JSON; the columns beside it
// are what is searched by. Ids are ULIDs, so their order is that of time. uid is
// NULL where the kernel gave none.
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
PRAGMA user_version = 1;
`

const schemaVersion = 1

// openCatalogue opens the catalogue in dir. Readers work beside the one writer
// (write-ahead log) and after it.
func openCatalogue(dir string, readOnly bool) (*sql.DB, error) {
	// Only _pragma parameters count with this driver; others are ignored silently.
	q := url.Values{"_pragma": {"busy_timeout(5000)"}}
	if readOnly {
		q.Set("mode", "ro")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(NORMAL)")
	}
	path := filepath.Join(dir, catalogueName)
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
	case version == 0 && !readOnly:
		_, err = db.Exec("BEGIN;" + schema + "COMMIT;")
	case version == 0:
		err = fmt.Errorf("it is empty: culprit has not run yet")
	case version != schemaVersion:
		err = fmt.Errorf("it has the version %d of another culprit, this one knows version %d", version, schemaVersion)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}
