package catalogue

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"culprit/evidence/internal/fixture"
)

// upgradeIn is the environment of a process that upgrades the catalogue in a directory, to be killed.
const upgradeIn = "CULPRIT_TEST_UPGRADE"

// An upgrade that is killed in the middle leaves the catalogue as it was, and the next one upgrades it.
func TestUpgradeKilled(t *testing.T) {
	if dir := os.Getenv(upgradeIn); dir != "" {
		db, err := connect(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		return
	}
	t.Parallel()
	for hits := 20_000; ; hits *= 4 {
		dir := t.TempDir()
		oldCatalogue(t, dir, hits)
		if !Outdated(dir) {
			t.Fatal("the old catalogue is not outdated")
		}
		if !killedInTheMiddle(t, dir) {
			if hits > 1_000_000 {
				t.Fatal("upgrading a million hits ends before it begins to write")
			}
			continue
		}
		if !Outdated(dir) {
			t.Error("half an upgrade counts as one")
		}
		c, _, done := open(t, dir, nil)
		defer done()
		if Outdated(dir) {
			t.Error("the catalogue was not upgraded")
		}
		var n, named int
		if err := c.db.QueryRow("SELECT count(*), count(name) FROM hits").Scan(&n, &named); err != nil || n != hits || named != hits {
			t.Errorf("%d hits, %d with a name, of %d; %v", n, named, hits, err)
		}
		var sound string
		if err := c.db.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
			t.Errorf("the catalogue is %s, %v", sound, err)
		}
		return
	}
}

// oldCatalogue makes a catalogue of the first version.
func oldCatalogue(t *testing.T, dir string, hits int) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	h := fixture.Hit("7", "a")
	_, err = db.Exec(schema+`PRAGMA user_version = 1; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO hits SELECT substr(?, 1, 19) || printf('%07d', i), 'a', 7, 'C', 1, ?, x'45' FROM n`, hits, h.Event.ID, document(h))
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// killedInTheMiddle kills an upgrade when it has begun to write. It returns false if that was too late.
func killedInTheMiddle(t *testing.T, dir string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestUpgradeKilled$")
	cmd.Env = append(os.Environ(), upgradeIn+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(fmt.Errorf("the upgrade failed: %w", err))
			}
			return false
		case <-look.C:
		}
		if info, err := os.Stat(filepath.Join(dir, fileName+"-wal")); err == nil && info.Size() > 1<<20 {
			cmd.Process.Kill()
			<-ended
			return Outdated(dir) // otherwise it had just ended
		}
	}
}
